"""What passes on the loopback interface, as SIP messages.

A packet socket needs rights (root or CAP_NET_RAW); without them `Wire.open` gives None and the play goes by the
phones' logs alone.
"""

import ctypes
import re
import socket
import struct
import threading
import time

ETH_P_IP = 0x0800
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33


class Message:
    """One SIP message: first line, headers (lower case, long names), body."""

    COMPACT = {"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length",
               "c": "content-type", "o": "event", "s": "subject", "k": "supported", "e": "content-encoding"}

    def __init__(self, head, body, origin, target, to_server):
        self.at = time.time()
        self.origin, self.target, self.to_server, self.body = origin, target, to_server, body
        lines = re.sub(r"\r\n[ \t]+", " ", head).split("\r\n")
        self.first = lines[0]
        self.headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            self.headers.setdefault(self.COMPACT.get(name, name), []).append(value.strip())
        self.status = int(self.first.split()[1]) if self.first.startswith("SIP/2.0 ") else None
        cseq = self.header("cseq").split()
        self.method = cseq[1] if len(cseq) > 1 else ""

    def header(self, name):
        return self.headers.get(name, [""])[0]

    def user(self, name):
        """The user part of the URI in From or To."""
        found = re.search(r"sips?:([^@;>]+)@", self.header(name))
        return found.group(1) if found else ""

    def is_request(self, method):
        return self.status is None and self.method == method

    def __str__(self):
        state = self.header("subscription-state")
        basic = re.findall(r"<(?:\w+:)?basic[^>]*>\s*(\w+)", self.body)
        return (f"{self.origin}->{self.target} {self.first} ({self.method}) "
                f"{self.user('from')}->{self.user('to')} {state} {' '.join(basic)}").rstrip()


class Wire:
    """Listens on lo for the given ports and keeps every message in order."""

    def __init__(self, sock, server_port, phone_ports, path):
        self.sock, self.server_port, self.phone_ports = sock, server_port, set(phone_ports)
        self.messages, self.streams = [], {}
        self.changed = threading.Condition()
        self.file = open(path, "w", encoding="utf-8")
        threading.Thread(target=self.listen, daemon=True).start()

    @staticmethod
    def open(server_port, phone_ports, path):
        try:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        except (PermissionError, AttributeError):
            return None
        attach(sock, [server_port, *phone_ports])
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        except OSError:
            pass
        sock.bind(("lo", ETH_P_IP))
        return Wire(sock, server_port, phone_ports, path)

    def mark(self):
        return len(self.messages)

    def since(self, mark, test):
        return [m for m in self.messages[mark:] if test(m)]

    def wait(self, test, after, deadline):
        """The first message after `after` that passes the test, or None."""
        end = time.monotonic() + deadline
        with self.changed:
            while True:
                for message in self.messages[after:]:
                    if test(message):
                        return message
                left = end - time.monotonic()
                if left <= 0:
                    return None
                self.changed.wait(left)

    def listen(self):
        while True:
            packet = self.sock.recv(1 << 17)[14:]
            size = (packet[0] & 15) * 4
            total = struct.unpack("!H", packet[2:4])[0] or len(packet)
            protocol, part = packet[9], packet[size:total]
            origin, target = struct.unpack("!HH", part[:4])
            if protocol == socket.IPPROTO_UDP:
                self.datagram(part[8:], origin, target)
            elif protocol == socket.IPPROTO_TCP:
                self.segment(part, origin, target)

    def datagram(self, data, origin, target):
        head, found, body = data.partition(b"\r\n\r\n")
        if found and b"SIP/2.0" in head:
            self.keep(head, body, origin, target)

    def segment(self, part, origin, target):
        sequence, flags = struct.unpack("!I", part[4:8])[0], part[13]
        key, data = (origin, target), part[(part[12] >> 4) * 4:]
        if flags & 2:
            self.streams[key] = [(sequence + 1) & 0xFFFFFFFF, b""]
            return
        stream = self.streams.setdefault(key, [sequence, b""])
        if not data or sequence != stream[0]:
            return
        stream[0] = (sequence + len(data)) & 0xFFFFFFFF
        stream[1] = (stream[1] + data).lstrip(b"\r\n")
        while True:
            head, found, rest = stream[1].partition(b"\r\n\r\n")
            if not found:
                return
            length = re.search(rb"(?im)^(?:content-length|l)[ \t]*:[ \t]*(\d+)", head)
            length = int(length.group(1)) if length else 0
            if len(rest) < length:
                return
            stream[1] = rest[length:].lstrip(b"\r\n")
            self.keep(head, rest[:length], origin, target)

    def keep(self, head, body, origin, target):
        if target == self.server_port:
            to_server = True
        elif origin == self.server_port:
            to_server = False
        else:
            to_server = target not in self.phone_ports
        text, payload = head.decode("utf-8", "replace"), body.decode("utf-8", "replace")
        message = Message(text, payload, origin, target, to_server)
        stamp = time.strftime("%H:%M:%S", time.localtime(message.at)) + f".{int(message.at * 1000) % 1000:03}"
        self.file.write(f"---- {stamp} {message}\n{text}\n\n{payload}\n".replace("\r", ""))
        self.file.flush()
        with self.changed:
            self.messages.append(message)
            self.changed.notify_all()


def attach(sock, ports):
    """A classic BPF program: IPv4 from or to one of the ports."""
    code = [(0xB1, 0, 0, 14), (0x48, 0, 0, 14)]
    tests = []
    for word in (None, (0x48, 0, 0, 16)):
        if word:
            tests.append(word)
        tests += [(0x15, None, 0, port) for port in ports]
    accept = len(tests) + 1
    for place, (op, jump, no, value) in enumerate(tests):
        tests[place] = (op, accept - place - 1 if jump is None else jump, no, value)
    code += tests + [(0x06, 0, 0, 0), (0x06, 0, 0, 0x40000)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(code), ctypes.addressof(program)))
