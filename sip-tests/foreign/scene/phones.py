"""Two real phones behind one face: linphonec and baresip.

All that a phone says (its output, its log, its events) is one growing list of lines; `wait` looks in it for a
pattern. Nothing sleeps a fixed time.
"""

import fcntl
import json
import os
import pty
import re
import shutil
import socket
import subprocess
import termios
import threading
import time

from server import DOMAIN, PASSWORD

MODULES = ("/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules", "/usr/local/lib/baresip/modules")
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Phone:
    program = ""
    # Patterns for what a phone says; {} is the buddy's user name.
    registered = online = offline = got = ringing = incoming = established = ended = ""
    # What makes the phone say how its buddy is, if it does not by itself.
    ask = None
    # Does it notice a broken connection at once, and register again? (Nothing can be called meanwhile.)
    reconnects = False

    def __init__(self, name, buddy, transport, server_port, port, work):
        self.name, self.buddy, self.transport = name, buddy, transport
        self.server_port, self.port = server_port, port
        self.home = os.path.join(work, name)
        self.lines, self.changed = [], threading.Condition()
        self.process = None
        os.makedirs(self.home, exist_ok=True)
        self.transcript = open(os.path.join(self.home, "transcript"), "a", encoding="utf-8")

    @classmethod
    def installed(cls):
        return shutil.which(cls.program) is not None

    def mark(self):
        return len(self.lines)

    def say(self, line):
        line = COLOURS.sub("", line).replace("\r", "")
        with self.changed:
            self.lines.append(line)
            self.changed.notify_all()
        self.transcript.write(f"{time.time():.3f} {line}\n")
        self.transcript.flush()

    def sees(self, online, after, deadline):
        """Does the phone say, after `after`, that its buddy is online (or not)? Asked again and again, if it must be."""
        pattern = self.online if online else self.offline
        if self.ask is None:
            return self.wait(pattern, after, deadline)
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            after = self.mark()
            self.do(self.ask)
            found = self.wait(pattern, after, 0.25)
            if found:
                return found
        return None

    def wait(self, pattern, after=0, deadline=10):
        """The first line after `after` that matches, or None."""
        wanted, end, place = re.compile(pattern.replace("{}", self.buddy)), time.monotonic() + deadline, after
        with self.changed:
            while True:
                while place < len(self.lines):
                    if wanted.search(self.lines[place]):
                        return self.lines[place]
                    place += 1
                left = end - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and left < deadline - 1):
                    return None
                self.changed.wait(min(left, 0.5))

    def run(self, arguments, stdin):
        """The output goes to a terminal of its own, so that it comes line by line."""
        master, slave = pty.openpty()
        mode = termios.tcgetattr(slave)
        mode[1] &= ~termios.OPOST
        termios.tcsetattr(slave, termios.TCSANOW, mode)
        environment = dict(os.environ, HOME=self.home, TERM="dumb", LANG="C.UTF-8")
        self.process = subprocess.Popen(arguments, stdin=stdin, stdout=slave, stderr=slave, env=environment,
                                        cwd=self.home, start_new_session=True)
        os.close(slave)
        self.follow(os.fdopen(master, "rb", buffering=0), "out: ")

    def follow(self, file, prefix, ends=True):
        threading.Thread(target=self.read, args=(file, prefix, ends), daemon=True).start()

    def read(self, file, prefix, ends):
        rest = b""
        while True:
            try:
                data = file.read(65536)
            except OSError:
                return
            if not data:
                if ends or self.process.poll() is not None:
                    return
                time.sleep(0.02)
                continue
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                self.say(prefix + line.decode("utf-8", "replace"))

    def gone(self, deadline=15):
        """Waits for the end of the process after `quit`."""
        try:
            self.process.wait(deadline)
            return True
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def uri(self, user):
        return f"sip:{user}@{DOMAIN}"


class Linphone(Phone):
    program = "linphonec"
    reconnects = True
    registered = r"moving from state \[LinphoneRegistration\w+\] to \[LinphoneRegistrationOk\]"
    online = r"^out: .*Friend .*sip:{}@.* is (Online|Available)"
    offline = r"^out: .*Friend .*sip:{}@.* is Offline"
    got = r"^out: .*Message received from .*sip:{}@[^:]*: "
    ringing = r"moving from state \S+ to (LinphoneCall)?Outgoing(Ringing|EarlyMedia)"
    incoming = r"moving from state \S+ to (LinphoneCall)?IncomingReceived"
    established = r"moving from state \S+ to (LinphoneCall)?StreamsRunning"
    ended = r"moving from state \S+ to (LinphoneCall)?Released\b"

    def start(self):
        tcp = self.transport == "tcp"
        os.makedirs(os.path.join(self.home, ".local/share/linphone"), exist_ok=True)
        os.makedirs(os.path.join(self.home, ".config/linphone"), exist_ok=True)
        with open(os.path.join(self.home, ".asoundrc"), "w", encoding="utf-8") as file:
            file.write("pcm.!default null\nctl.!default null\n")
        route = f"127.0.0.1:{self.server_port};transport={self.transport}"
        rc, log = os.path.join(self.home, "linphonerc"), os.path.join(self.home, "linphone.log")
        with open(rc, "w", encoding="utf-8") as file:
            file.write(f"""[sip]
sip_port={-1 if tcp else self.port}
sip_tcp_port={self.port if tcp else -1}
sip_tls_port=-1
guess_hostname=1
default_proxy=0
use_ipv6=0
[auth_info_0]
username={self.name}
userid={self.name}
passwd={PASSWORD}
realm={DOMAIN}
domain={DOMAIN}
[proxy_0]
reg_proxy=<sip:{route}>
reg_route=<sip:{route};lr>
reg_identity="{self.name}" <{self.uri(self.name)}>
reg_expires=600
reg_sendregister=1
publish=1
publish_expires=600
dial_escape_plus=0
[friend_0]
url=<{self.uri(self.buddy)}>
pol=accept
subscribe=1
[rtp]
audio_rtp_port={self.port + 4000}
[video]
enabled=0
""")
        open(log, "w", encoding="utf-8").close()
        self.run(["linphonec", "-S", "-c", rc, "-d", "6", "-l", log], subprocess.PIPE)
        self.follow(open(log, "rb", buffering=0), "log: ", ends=False)
        self.do("soundcard use files")

    def do(self, command):
        self.say("do: " + command)
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()

    def call(self):
        self.do(f"call {self.uri(self.buddy)} --audio-only")

    def answer(self):
        self.do("answer")

    def hang_up(self):
        self.do("terminate")

    def message(self, text):
        self.do(f"chat {self.uri(self.buddy)} {text}")

    def quit(self):
        self.do("quit")
        return self.gone()


class Baresip(Phone):
    program = "baresip"
    registered = r"^out: .*200 OK \(hither\) \[[1-9]"
    online = r"^event: .*\bOnline\b[^\n]{0,60}sip:{}@"
    offline = r"^event: .*\b(Offline|Unknown)\b[^\n]{0,60}sip:{}@"
    ask = "contacts"
    # Of a message it only says what its trace says: the body on a line of its own.
    got = r"^out: "
    ringing = r'"type":"CALL_(RINGING|PROGRESS)"'
    incoming = r'"type":"CALL_INCOMING"'
    established = r'"type":"CALL_ESTABLISHED"'
    ended = r'"type":"CALL_CLOSED"'

    def start(self):
        modules = next((path for path in MODULES if os.path.isdir(path)), MODULES[0])
        control = self.port + 5
        with open(os.path.join(self.home, "config"), "w", encoding="utf-8") as file:
            file.write(f"""poll_method epoll
sip_listen 127.0.0.1:{self.port}
call_local_timeout 120
call_max_calls 4
audio_player aubridge,nil
audio_source aubridge,nil2
audio_alert aubridge,nil
rtp_ports {self.port + 4000}-{self.port + 4008}
module_path {modules}
module g711.so
module aubridge.so
module_tmp uuid.so
module_tmp account.so
module_app contact.so
module_app menu.so
module_app presence.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control}
""")
        with open(os.path.join(self.home, "accounts"), "w", encoding="utf-8") as file:
            file.write(f'<{self.uri(self.name)};transport={self.transport}>;auth_pass="{PASSWORD}"'
                       f';outbound="sip:127.0.0.1:{self.server_port};transport={self.transport}"'
                       ";pubint=600;regint=600;answermode=manual\n")
        with open(os.path.join(self.home, "contacts"), "w", encoding="utf-8") as file:
            file.write(f'"{self.buddy}" <{self.uri(self.buddy)}>;presence=p2p\n')
        with open(os.path.join(self.home, "current_contact"), "w", encoding="utf-8") as file:
            file.write(self.uri(self.buddy))
        self.run(["baresip", "-4", "-s", "-f", self.home], subprocess.DEVNULL)
        end = time.monotonic() + 10
        while True:
            try:
                self.control = socket.create_connection(("127.0.0.1", control))
                break
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise SystemExit(f"baresip does not run, see {self.home}/transcript") from None
                time.sleep(0.02)
        fcntl.fcntl(self.control, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        threading.Thread(target=self.events, daemon=True).start()

    def events(self):
        """Netstrings of JSON: events and the answers to commands."""
        rest = b""
        while True:
            try:
                data = self.control.recv(65536)
            except OSError:
                return
            if not data:
                return
            rest += data
            while b":" in rest:
                size, _, tail = rest.partition(b":")
                if len(tail) < int(size) + 1:
                    break
                event = json.loads(tail[:int(size)])
                if isinstance(event.get("data"), str):
                    event["data"] = COLOURS.sub("", event["data"])
                self.say("event: " + json.dumps(event, separators=(",", ":")))
                rest = tail[int(size) + 1:]

    def do(self, command, params=""):
        self.say(f"do: {command} {params}")
        text = json.dumps({"command": command, "params": params, "token": "t"}).encode()
        self.control.sendall(b"%d:%s," % (len(text), text))

    def call(self):
        self.do("dial", self.uri(self.buddy))

    def answer(self):
        self.do("accept")

    def hang_up(self):
        self.do("hangup")

    def message(self, text):
        self.do("message", text)

    def appear(self, online):
        self.do("presence_online" if online else "presence_offline")

    def quit(self):
        self.do("quit")
        return self.gone()
