"""A desk telephone's lamp key, scripted: it watches the dialogs of one user (RFC 4235, "BLF"), and can tell of its own.

Neither Linphone nor baresip has lamps, so this one speaks SIP itself, over UDP, as desk telephones do: SUBSCRIBE with
Accept application/dialog-info+xml, and 200 to every NOTIFY.
"""

import hashlib
import re
import secrets
import socket
import threading
import time

from server import DOMAIN, PASSWORD

HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


class Lamp:
    """A telephone of `name`, with a key for `buddy`."""

    def __init__(self, name, buddy, server_port):
        self.name, self.buddy, self.cseq = name, buddy, 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.connect(("127.0.0.1", server_port))
        self.place = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.notifies, self.answers, self.changed = [], [], threading.Condition()
        self.dialog, self.etag, self.closed = {}, None, False
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while not self.closed:
            try:
                text = self.socket.recv(65536).decode("utf-8", "replace")
            except ConnectionRefusedError:
                continue  # The server is away.
            except OSError:
                return
            head, _, body = text.partition("\r\n\r\n")
            if text.startswith("SIP/2.0 "):
                with self.changed:
                    self.answers.append(head)
                    self.changed.notify_all()
            elif text.startswith("NOTIFY "):
                rows = [row for row in head.split("\r\n")[1:] if re.match(r"(?i)(via|from|to|call-id|cseq)\s*:", row)]
                self.send("\r\n".join(["SIP/2.0 200 OK", *rows, "Content-Length: 0", "", ""]))
                with self.changed:
                    self.notifies.append((head, body))
                    self.changed.notify_all()

    def send(self, text):
        try:
            self.socket.send(text.encode())
        except ConnectionRefusedError:
            self.socket.send(text.encode())

    def ask(self, method, uri, rows, dialog=None, body="", deadline=5):
        """Sends a request, with credentials when it is challenged; gives the status and the head of the final answer."""
        dialog = dialog if dialog is not None else {}
        call = dialog.setdefault("call", secrets.token_hex(8))
        tag = dialog.setdefault("tag", secrets.token_hex(4))
        authorization = []
        for _ in range(3):
            self.cseq += 1
            head = [f"{method} {uri} SIP/2.0", f"Via: SIP/2.0/UDP {self.place};branch=z9hG4bK{secrets.token_hex(8)};rport",
                    "Max-Forwards: 70", f"From: <sip:{self.name}@{DOMAIN}>;tag={tag}", f"To: {dialog.get('to', f'<{uri}>')}",
                    f"Call-ID: {call}", f"CSeq: {self.cseq} {method}", f"Contact: <sip:{self.name}@{self.place}>",
                    "User-Agent: lamp (hither sip-tests)", *rows, *authorization, f"Content-Length: {len(body)}"]
            answer = self.final("\r\n".join([*head, "", body]), f"{self.cseq} {method}", call, deadline)
            status = int(answer.split()[1]) if answer else 0
            if status != 401:
                return status, answer
            authorization = [self.credentials(answer, method, uri)]
        return status, answer

    def final(self, text, cseq, call, deadline):
        """Repeats a request until its final answer is there (RFC 3261 17.1.2)."""
        end, again, mark = time.monotonic() + deadline, 0, len(self.answers)
        with self.changed:
            while time.monotonic() < end:
                if time.monotonic() >= again:
                    self.send(text)
                    again = time.monotonic() + 0.5
                for answer in self.answers[mark:]:
                    if not answer.startswith("SIP/2.0 1") and value(answer, "cseq") == cseq and value(answer, "call-id") == call:
                        return answer
                self.changed.wait(0.1)
        return ""

    def credentials(self, answer, method, uri):
        for offer in re.findall(r"(?im)^www-authenticate:\s*Digest (.*?)\r?$", answer):
            said = {key.lower(): quoted or plain for key, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', offer)}
            hash_of = HASHES.get(said.get("algorithm", "MD5"))
            if hash_of is None:
                continue
            def digest(text):
                return hash_of(text.encode()).hexdigest()
            cnonce, realm, nonce = secrets.token_hex(8), said["realm"], said["nonce"]
            secret, what = digest(f"{self.name}:{realm}:{PASSWORD}"), digest(f"{method}:{uri}")
            response = digest(f"{secret}:{nonce}:00000001:{cnonce}:auth:{what}")
            return (f'Authorization: Digest username="{self.name}", realm="{realm}", nonce="{nonce}", uri="{uri}", '
                    f'response="{response}", algorithm={said.get("algorithm", "MD5")}, qop=auth, nc=00000001, cnonce="{cnonce}"')
        return "X-No-Credentials: no algorithm that is known"

    def watch(self, expires=600):
        """Subscribes, or refreshes, or ends with 0; gives the status."""
        target = self.dialog.get("target", f"sip:{self.buddy}@{DOMAIN}")
        rows = ["Event: dialog", "Accept: application/dialog-info+xml", f"Expires: {expires}"]
        status, answer = self.ask("SUBSCRIBE", target, rows, self.dialog)
        if status == 200:
            self.dialog["to"] = value(answer, "to")
            self.dialog["target"] = value(answer, "contact").strip("<>")
        return status

    def tell(self, state):
        """Publishes the one call of this telephone in that state; without one, no call."""
        call = f'<dialog id="1" call-id="{self.place}" direction="recipient"><state>{state}</state></dialog>' if state else ""
        body = (f'<?xml version="1.0"?>\n<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="0" state="full" '
                f'entity="sip:{self.name}@{DOMAIN}">{call}</dialog-info>')
        rows = ["Event: dialog", "Expires: 600", "Content-Type: application/dialog-info+xml"]
        rows += [f"SIP-If-Match: {self.etag}"] if self.etag else []
        status, answer = self.ask("PUBLISH", f"sip:{self.name}@{DOMAIN}", rows, body=body)
        if status == 200:
            self.etag = value(answer, "sip-etag")
        return status

    def mark(self):
        return len(self.notifies)

    def shows(self, state, after, deadline):
        """A NOTIFY after `after` by which the lamp is in that state: the furthest of all dialogs, `idle` if none is going on."""
        end = time.monotonic() + deadline
        with self.changed:
            while True:
                for head, body in self.notifies[after:]:
                    if value(head, "subscription-state").startswith(state) or lit(body) == state and "active" in head:
                        return head
                left = end - time.monotonic()
                if left <= 0:
                    return None
                self.changed.wait(left)

    def grows(self):
        """Do the numbers of NOTIFYs and the versions of documents only grow (RFC 3261 12.2.1.1, RFC 4235 4.1)?"""
        numbers = [int(value(head, "cseq").split()[0]) for head, _ in self.notifies]
        versions = [int(found) for _, body in self.notifies for found in re.findall(r'\bversion="(\d+)"', body.split("?>")[-1])]
        return all(a < b for row in (numbers, versions) for a, b in zip(row, row[1:]))

    def close(self):
        self.closed = True
        self.socket.close()


def value(head, name):
    found = re.search(rf"(?im)^{name}\s*:\s*(.*?)\s*?\r?$", head)
    return found.group(1) if found else ""


def lit(body):
    if "<dialog-info" not in body:
        return None
    states = re.findall(r"<state[^>]*>\s*(\w+)\s*</state>", body)
    for state in ("confirmed", "early", "proceeding", "trying"):
        if state in states:
            return state
    return "idle"
