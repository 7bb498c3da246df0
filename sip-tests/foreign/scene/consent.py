#!/usr/bin/env python3
"""Who may watch whom, asked and answered with real softphones through hither.

    consent.py --server PATH_TO_hither [--database sqlite:FILE | postgres://...] [--cast bl,ll,lb] [--keep]

The domain's rule is `confirm`. The second phone watches the first one's user, who is told by a scripted list of watchers
(`presence.winfo`) and answers with rules, written by curl over XCAP: let in, put off, kept away politely, refused; and after a night
in which the server was killed. One line PASS or FAIL each; exit code 1 if one failed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

from scene import KINDS, STEP, USERS, Play, free_ports
from server import DOMAIN, PASSWORD, Server
from watchers import Watchers
from wire import Wire

ALL = ("<pr:provide-services><pr:all-services/></pr:provide-services><pr:provide-persons><pr:all-persons/></pr:provide-persons>"
       "<pr:provide-devices><pr:all-devices/></pr:provide-devices><pr:provide-all-attributes/>")
# A phone that is gone without a word is found out by a NOTIFY that nobody answers (RFC 3261 17.1.2.2).
SILENCE = 50


class Consent(Play):
    """A is the owner, over UDP; B watches, over TCP."""

    def __init__(self, cast, server, wire, first_port, work, http):
        super().__init__(cast, server, wire, first_port, work)
        self.http, self.list = http, None

    def evening(self):
        for act in (self.ask, self.allow, self.confirm, self.polite, self.block, self.night):
            act()
        return self.failures

    def rule(self, handling):
        """Writes alice's only rule, by curl over XCAP; gives the status."""
        document = ('<ruleset xmlns="urn:ietf:params:xml:ns:common-policy" xmlns:pr="urn:ietf:params:xml:ns:pres-rules"><rule id="b">'
                    f'<conditions><identity><one id="sip:{self.b.name}@{DOMAIN}"/></identity></conditions>'
                    f"<actions><pr:sub-handling>{handling}</pr:sub-handling></actions><transformations>{ALL}</transformations></rule></ruleset>")
        return self.curl("--upload-file", "-", "-H", "Content-Type: application/auth-policy+xml", given=document)

    def curl(self, *arguments, given=""):
        url = f"http://127.0.0.1:{self.http}/xcap-root/pres-rules/users/sip:{self.a.name}@{DOMAIN}/index"
        done = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--digest", "-u", f"{self.a.name}:{PASSWORD}",
                               *arguments, url], input=given, text=True, capture_output=True, timeout=20, check=False)
        return int(done.stdout or 0)

    def listed(self, mark, statuses, event=None, deadline=STEP):
        what = f"{self.a.name}'s list has {self.b.name} as {' or '.join(statuses)}"
        def check():
            told = self.list.told(mark, self.b.name, statuses, deadline)
            return told and (event is None or told[1] == event)
        return what, check

    def decides(self, title, handling, state, basic, *more):
        """A rule, and what comes of it; says how long the watcher waited for it."""
        marks, told, began = self.marks(), self.list.mark(), time.time()
        status = self.rule(handling)
        self.step(title, ("200 or 201 to curl", lambda: status in (200, 201)),
                  self.passed(f"NOTIFY {state}", self.notify(self.b.name, self.a.name, state, basic), marks[2]),
                  *(check(marks, told) for check in more))
        if self.wire:
            notify = self.wire.wait(self.notify(self.b.name, self.a.name, state, basic), marks[2], 0)
            if notify:
                self.note(f"{handling}: the watcher was told after {notify.at - began:.3f} s")

    def ask(self):
        marks = self.marks()
        self.list = Watchers(self.a.name, self.server.port)
        self.step(f"{self.a.name} asks who watches", ("200 to SUBSCRIBE", lambda: self.list.watch() == 200))
        self.a.start()
        self.step(f"{self.a.name} registers", self.heard(self.a, self.a.registered, marks[0]))
        told = self.list.mark()
        self.b.start()
        self.step(f"{self.b.name} asks and waits", self.heard(self.b, self.b.registered, marks[1]),
                  self.passed("NOTIFY pending", self.notify(self.b.name, self.a.name, "pending"), marks[2]),
                  self.listed(told, ("pending",), "subscribe"),
                  ("hither rules says so", lambda: f"{self.b.name} (since" in self.pending()))

    def pending(self):
        return self.server.command("rules", self.a.name, "pending").stdout

    def allow(self):
        self.decides(f"{self.a.name} lets {self.b.name} in", "allow", "active", "open",
                     lambda marks, told: self.sees(self.b, True, marks[1]),
                     lambda _, told: self.listed(told, ("active",), "approved"))

    def confirm(self):
        self.decides(f"{self.a.name} puts {self.b.name} off", "confirm", "pending", None,
                     lambda _, told: self.listed(told, ("pending",)))

    def polite(self):
        self.decides(f"{self.a.name} keeps {self.b.name} away politely", "polite-block", "active", None,
                     lambda marks, told: self.sees(self.b, False, marks[1]),
                     lambda _, told: self.listed(told, ("active",)))

    def block(self):
        marks = self.marks()
        self.decides(f"{self.a.name} refuses {self.b.name}", "block", "terminated", None,
                     lambda _, told: self.listed(told, ("terminated",), "rejected"))
        if self.wire:
            again = self.wire.wait(lambda m: m.is_request("SUBSCRIBE") and m.user("from") == self.b.name, marks[2], 3)
            self.note(f"{self.b.program}, refused, {'subscribes again' if again else 'asks no more'}")

    def night(self):
        """The owner is away, and so is the server for a moment; the watcher asks and leaves."""
        a, b = self.a, self.b
        mark = self.list.mark()
        self.step(f"{a.name}'s list is put away", ("200 to SUBSCRIBE", lambda: self.list.watch(0) == 200),
                  ("terminated", lambda: self.list.shows("terminated", mark, STEP)))
        self.list.close()
        a.quit()
        b.quit()
        gone = self.curl("-X", "DELETE")
        marks = self.marks()
        b.start()
        self.step(f"{b.name} asks at night", ("200 to DELETE by curl", lambda: gone == 200), self.heard(b, b.registered, marks[1]),
                  self.passed("NOTIFY pending", self.notify(b.name, a.name, "pending"), marks[2]))
        b.quit()
        self.server.kill()
        self.server.start()
        self.list = Watchers(a.name, self.server.port)
        self.step(f"{a.name} learns in the morning who asked", ("200 to SUBSCRIBE", lambda: self.list.watch() == 200),
                  self.listed(0, ("pending", "waiting")), self.listed(0, ("waiting",), "timeout", SILENCE),
                  ("hither rules says so", lambda: "gone since" in self.pending()))
        told, status = self.list.mark(), self.rule("allow")
        self.step(f"{a.name} lets {b.name} in, who is away", ("201 to curl", lambda: status == 201),
                  self.listed(told, ("terminated",), "approved"))
        marks, told = self.marks(), self.list.mark()
        a.start()
        b.start()
        self.step(f"{b.name} comes back and sees {a.name}", self.sees(b, True, marks[1], 3 * STEP), self.listed(told, ("active",)),
                  ("the versions only grow", self.list.grows))
        if self.wire:
            asked = self.wire.since(0, lambda m: m.is_request("SUBSCRIBE") and m.header("user-agent").split("/")[0] != "lamp (hither sip-tests)")
            events = sorted({(m.user("from"), m.header("event")) for m in asked if m.user("from") in (a.name, b.name)})
            self.note("subscribed to: " + ", ".join(f"{user} {event}" for user, event in events))

    def end(self):
        super().end()
        if self.list and not self.list.closed:
            mark = self.list.mark()
            self.list.watch(0)
            self.list.shows("terminated", mark, STEP)
            self.list.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="path of the program hither")
    parser.add_argument("--database", help="as in hither's configuration; without it an SQLite file that is thrown away")
    parser.add_argument("--cast", default="bl,ll,lb", help="who plays: l linphone, b baresip; the owner, then who watches")
    parser.add_argument("--keep", action="store_true", help="keep the logs even if all passed")
    chosen = parser.parse_args()
    programs = {"curl", *(KINDS[kind].program for cast in chosen.cast.split(",") for kind in cast)}
    missing = sorted(program for program in programs if shutil.which(program) is None)
    if missing:
        raise SystemExit(f"SKIP: not installed: {', '.join(missing)}")
    work = tempfile.mkdtemp(prefix="consent-")
    casts = chosen.cast.split(",")
    port = free_ports(25000, lambda first: [first + 20 * n + p for n in range(1, 5) for p in (0, 10)] + [first + 5])
    server = Server(os.path.abspath(chosen.server), work, port, chosen.database)
    with open(server.config, "a", encoding="utf-8") as file:
        file.write(f'presence.default_rule = "confirm"\nhttp.listen = "127.0.0.1:{port + 5}"\n')
    for cast in casts:
        for name in USERS[cast]:
            server.account(name)
    places = [(cast, port + 20 * (number + 1)) for number, cast in enumerate(casts)]
    wire = Wire.open(port, [p + q for _, p in places for q in (0, 10)], os.path.join(work, "wire.txt"))
    if wire is None:
        print("NOTE no right to listen on lo: by the phones' logs alone", flush=True)
    failures, play = 0, None
    try:
        server.start()
        for cast, first in places:
            play = Consent(cast, server, wire, first, work, port + 5)
            failures += play.evening()
            play.end()
    finally:
        if play:
            play.end()
        code = server.stop()
    if code != 0:
        failures += 1
        print(f"FAIL the server ended with {code} when told to stop", flush=True)
    for line in server.complaints():
        print(f"NOTE server: {line[:300]}", flush=True)
    if failures or chosen.keep:
        print(f"logs: {work}", flush=True)
    else:
        shutil.rmtree(work)
    print(f"{failures} failed" if failures else "all passed", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
