#!/usr/bin/env python3
"""An evening with real softphones through hither.

    scene.py --server PATH_TO_hither [--database sqlite:FILE | postgres://...] [--cast lb,bb,ll] [--keep]

Two phones register, become each other's buddies, see each other come and go, write, call, cancel, decline; a desk
telephone's lamp shows whether one of them is in a call; the server is killed in between, and asked why somebody sees what
they see. Every step is waited for in the phones' logs and on the wire; one line PASS or FAIL
each; exit code 1 if one failed.
"""

import argparse
import json
import os
import shutil
import socket
import sys
import tempfile
import time

from lamp import Lamp
from phones import Baresip, Linphone
from server import Server
from wire import Wire

KINDS = {"l": Linphone, "b": Baresip}
USERS = {"lb": ("alice", "bob"), "bl": ("gina", "hugo"), "bb": ("carol", "dave"), "ll": ("erin", "frank")}
STEP = 10
# Linphone tries again at once, and if the server is not there yet after a minute.
RETRY = 75


class Play:
    """One cast: A over UDP, B over TCP."""

    def __init__(self, cast, server, wire, first_port, work):
        self.server, self.wire, self.cast = server, wire, cast
        first, second = USERS[cast]
        self.a = KINDS[cast[0]](first, second, "udp", server.port, first_port, work)
        self.b = KINDS[cast[1]](second, first, "tcp", server.port, first_port + 10, work)
        self.failures = 0
        self.key = self.desk = None

    def step(self, name, *checks):
        """Checks are pairs (what, call that gives something true); the first that fails ends the step."""
        begin = time.monotonic()
        failed = next((what for what, check in checks if not check()), None)
        took = f"{time.monotonic() - begin:.1f}s"
        if failed is None:
            print(f"PASS {self.cast} {name} ({took})", flush=True)
        else:
            self.failures += 1
            print(f"FAIL {self.cast} {name}: not seen within the time: {failed} ({took})", flush=True)
        return failed is None

    def heard(self, phone, pattern, mark, deadline=STEP):
        what = f"{phone.name}'s phone says /{pattern.replace('{}', phone.buddy)}/"
        return what, lambda: phone.wait(pattern, mark, deadline)

    def sees(self, phone, online, mark, deadline=STEP):
        what = f"{phone.name}'s phone shows {phone.buddy} {'online' if online else 'offline'}"
        return what, lambda: phone.sees(online, mark, deadline)

    def passed(self, what, test, mark, deadline=STEP):
        return f"on the wire: {what}", lambda: self.wire is None or self.wire.wait(test, mark, deadline)

    def marks(self):
        return self.a.mark(), self.b.mark(), self.wire.mark() if self.wire else 0

    def notify(self, watcher, about, state, basic=None):
        """A NOTIFY from the server to a watcher, with that state and, if given, that availability."""
        def test(message):
            return (message.is_request("NOTIFY") and not message.to_server
                    and message.user("to") == watcher and message.user("from") == about
                    and message.header("subscription-state").startswith(state)
                    and (basic is None or f">{basic}<" in message.body))
        return test

    def answered(self, method, status, sender):
        return lambda m: m.method == method and m.status == status and m.user("from") == sender

    def live_publications(self, phone):
        """How many publications of a phone live, by what was said on the wire since the cast came."""
        asked, live = {}, 0
        for message in self.wire.messages[self.arrived:]:
            if message.method != "PUBLISH" or message.user("from") != phone.name:
                continue
            key = (message.header("call-id"), message.header("cseq"))
            if message.status is None:
                asked[key] = message
            elif message.status == 200 and key in asked:
                request = asked.pop(key)
                initial, ends = not request.header("sip-if-match"), request.header("expires") == "0"
                live += 1 if initial and not ends else -1 if ends and not initial else 0
        return live

    def forgotten(self, phone, kept):
        """Does the phone have more publications than it knows of? Those stay until they expire (RFC 3903 4).

        Without the wire that is only known of those that forget for certain.
        """
        if not self.wire:
            return kept == 0 and phone.reconnects and phone.transport == "tcp"
        extra = self.live_publications(phone) - kept
        if extra > 0:
            self.note(f"{phone.name}'s phone has forgotten {extra} of its publications, they are shown until they expire")
        return extra > 0

    def note(self, text):
        print(f"NOTE {self.cast} {text}", flush=True)

    # The evening, in order.

    def evening(self):
        for act in (self.arrive, self.meet, self.explain, self.lamp, self.publish, self.write, self.calls, self.cancel,
                    self.decline, self.kill, self.kill_in_a_call, self.leave, self.trace):
            act()
        return self.failures

    def arrive(self):
        a, b = self.a, self.b
        self.arrived = wire = self.marks()[2]
        self.server.command("trace", a.name, "--for", "600")
        a.start()
        self.step(f"{a.name} registers ({a.program}, udp)", self.heard(a, a.registered, 0),
                  self.passed("200 to REGISTER", self.answered("REGISTER", 200, a.name), wire))
        self.step(f"{a.name} watches {b.name}, who does not watch back yet: pending",
                  self.passed("NOTIFY pending", self.notify(a.name, b.name, "pending"), wire))
        b.start()
        self.step(f"{b.name} registers ({b.program}, tcp)", self.heard(b, b.registered, 0),
                  self.passed("200 to REGISTER", self.answered("REGISTER", 200, b.name), wire))

    def meet(self):
        a, b, wire = self.a, self.b, self.arrived
        self.step(f"{b.name} watches {a.name}: active, and sees {a.name} online",
                  self.passed("NOTIFY active, open", self.notify(b.name, a.name, "active", "open"), wire),
                  self.sees(b, True, 0))
        self.step(f"{a.name}'s subscription turns active, and {a.name} sees {b.name} online",
                  self.passed("NOTIFY active, open", self.notify(a.name, b.name, "active", "open"), wire),
                  self.sees(a, True, 0))

    def show(self, text):
        for line in text.splitlines():
            print(f"     {self.cast} | {line}", flush=True)

    def explained(self, watcher, presentity, package="presence"):
        """What `hither explain` says to programs, and of it the live subscriptions in a package."""
        asked = self.server.command("explain", "--watcher", watcher, "--presentity", presentity, "--json")
        answer = json.loads(asked.stdout) if asked.returncode == 0 else {}
        rows = [row for row in answer.get("subscriptions", []) if row["lives"] and row["package"] == package]
        return answer, rows

    def knows(self, watcher, presentity, package="presence", deadline=STEP):
        """The server says that this watcher sees all, was told all there is, and has answered."""
        end = time.monotonic() + deadline
        while True:
            answer, rows = self.explained(watcher, presentity, package)
            told = [row for row in rows if not row["owed"] and row["last"] and row["last"]["answer"] == "200"]
            if answer.get("sees") == "full" and told:
                return True
            if time.monotonic() > end:
                return False
            time.sleep(0.05)

    def explain(self, title=""):
        for watcher, presentity in ((self.b, self.a), (self.a, self.b)):
            self.step(f"{title}hither explain: {watcher.name} sees all of {presentity.name}, and is owed nothing",
                      ("told, and answered with 200", lambda w=watcher.name, p=presentity.name: self.knows(w, p)))
        self.show(self.server.command("explain", "--watcher", self.b.name, "--presentity", self.a.name).stdout)

    def lamp(self):
        """B has a desk telephone, too, with a key for A; and A's desk telephone tells of its calls."""
        a, b = self.a, self.b
        key = Lamp(b.name, a.name, self.server.port)
        if key.watch() == 489:
            key.close()
            return self.note("no lamps: the server has no package dialog")
        self.key, self.desk = key, Lamp(a.name, b.name, self.server.port)
        self.step(f"{b.name}'s lamp for {a.name} is dark", self.lit("idle", 0))
        for state, shown in (("early", "early"), ("confirmed", "confirmed"), (None, "idle")):
            mark = key.mark()
            self.step(f"{a.name}'s desk telephone has {'a call: ' + state if state else 'no call any more'}, the lamp shows it",
                      ("200 to PUBLISH", lambda s=state: self.desk.tell(s) == 200), self.lit(shown, mark))
        return None

    def lit(self, state, mark, deadline=STEP):
        return f"the lamp is {state}", lambda: self.key.shows(state, mark, deadline)

    def lamp_after(self, title):
        """The lamp has asked for nothing: the server owes it full state, and goes on with its numbers."""
        if not self.key:
            return
        mark = self.key.mark()
        self.step(f"{title}the lamp goes on", ("200 to PUBLISH", lambda: self.desk.tell("confirmed") == 200),
                  self.lit("confirmed", mark))
        mark = self.key.mark()
        self.step(f"{title}and goes out", ("200 to PUBLISH", lambda: self.desk.tell(None) == 200), self.lit("idle", mark),
                  ("numbers and versions only grow", self.key.grows))

    def trace(self):
        asked = self.server.command("trace", self.a.name, "--json")
        lines = [json.loads(line) for line in asked.stdout.splitlines()]
        self.step(f"hither trace {self.a.name}: messages both ways, without bodies and credentials",
                  ("in and out", lambda: {"in", "out"} <= {line["direction"] for line in lines}),
                  ("nothing secret", lambda: not any(word in asked.stdout for word in ("response=", "good evening"))))
        self.show("\n".join(self.server.command("trace", self.a.name).stdout.splitlines()[:14]))

    def publish(self, title=""):
        for phone, watcher in ((self.a, self.b), (self.b, self.a)):
            if not hasattr(phone, "appear"):
                continue
            for online, basic in ((False, "closed"), (True, "open")):
                marks = self.marks()
                phone.appear(online)
                checks = [self.passed("200 to PUBLISH", self.answered("PUBLISH", 200, phone.name), marks[2]),
                          self.passed(f"NOTIFY active, {basic}",
                                      self.notify(watcher.name, phone.name, "active", basic), marks[2])]
                if not self.forgotten(phone, 1):
                    checks.append(self.sees(watcher, online, marks[0 if watcher is self.a else 1]))
                self.step(f"{title}{phone.name} publishes {basic}, {watcher.name} sees it", *checks)

    def write(self, title=""):
        for number, (sender, receiver) in enumerate(((self.a, self.b), (self.b, self.a))):
            marks = self.marks()
            text = f"good evening {receiver.name}"
            sender.message(text)
            self.step(f"{title}message {sender.name} -> {receiver.name}",
                      self.heard(receiver, receiver.got + text, marks[1 - number]),
                      self.passed("2xx to MESSAGE", lambda m, s=sender: m.method == "MESSAGE" and not m.to_server
                                  and m.status in (200, 202) and m.user("from") == s.name, marks[2]))

    def call(self, caller, callee, by, title):
        marks = self.marks()
        at = {self.a: marks[0], self.b: marks[1]}
        caller.call()
        if not self.step(f"{title} rings", self.heard(callee, callee.incoming, at[callee]),
                         self.heard(caller, caller.ringing, at[caller])):
            caller.hang_up()
            return
        callee.answer()
        self.step(f"{title} established", self.heard(caller, caller.established, at[caller]),
                  self.heard(callee, callee.established, at[callee]),
                  self.passed("ACK to the callee", lambda m: m.is_request("ACK") and not m.to_server
                              and m.user("from") == caller.name, marks[2]))
        if by:
            self.hang_up(by, title)

    def hang_up(self, by, title):
        marks = self.marks()
        by.hang_up()
        self.step(f"{title} hung up by {by.name}", self.heard(self.a, self.a.ended, marks[0]),
                  self.heard(self.b, self.b.ended, marks[1]),
                  self.passed("200 to BYE", self.answered("BYE", 200, by.name), marks[2]))

    def calls(self, title=""):
        a, b = self.a, self.b
        self.call(a, b, b, f"{title}call {a.name} -> {b.name}")
        self.call(b, a, b, f"{title}call {b.name} -> {a.name}")

    def cancel(self):
        for number, (caller, callee) in enumerate(((self.a, self.b), (self.b, self.a))):
            marks = self.marks()
            caller.call()
            self.step(f"call {caller.name} -> {callee.name} to be cancelled rings",
                      self.heard(callee, callee.incoming, marks[1 - number]),
                      self.heard(caller, caller.ringing, marks[number]))
            caller.hang_up()
            self.step(f"cancelled by {caller.name} while ringing",
                      self.heard(callee, callee.ended, marks[1 - number]),
                      self.heard(caller, caller.ended, marks[number]),
                      self.passed("487 to INVITE", lambda m, c=caller: m.method == "INVITE" and m.status == 487
                                  and not m.to_server and m.user("from") == c.name, marks[2]))

    def decline(self):
        for number, (caller, callee) in enumerate(((self.a, self.b), (self.b, self.a))):
            marks = self.marks()
            caller.call()
            ringing = [self.heard(callee, callee.incoming, marks[1 - number])]
            if not self.step(f"call {caller.name} -> {callee.name} to be declined rings", *ringing):
                continue
            callee.hang_up()
            self.step(f"declined by {callee.name}", self.heard(caller, caller.ended, marks[number]),
                      self.heard(callee, callee.ended, marks[1 - number]),
                      self.passed("4xx or 6xx to INVITE", lambda m, c=caller: m.method == "INVITE"
                                  and not m.to_server and (m.status or 0) >= 480 and m.user("from") == c.name,
                                  marks[2]))

    def kill(self):
        wire = self.marks()[2]
        title = "after kill -9: "
        self.crash(title)
        self.lamp_after(title)
        self.calls(title)
        self.publish(title)
        self.write(title)
        self.explain(title)
        self.registers(wire)

    def crash(self, title):
        marks = self.marks()
        self.server.kill()
        self.server.start()
        self.server.command("trace", self.a.name, "--for", "600")
        for phone, mark in ((self.a, marks[0]), (self.b, marks[1])):
            if phone.reconnects and phone.transport == "tcp":
                self.step(f"{title}{phone.name}'s phone finds the server again",
                          self.heard(phone, phone.registered, mark, RETRY))

    def registers(self, mark):
        """Nobody had to register again (a phone may, when its connection broke: that is told, not judged)."""
        if not self.wire:
            return
        again = self.wire.since(mark, lambda m: m.is_request("REGISTER"))
        names = ", ".join(sorted({m.user("from") for m in again})) or "nobody"
        self.note(f"registered again after the kill: {names}")

    def kill_in_a_call(self):
        a, b = self.a, self.b
        title = f"call {a.name} -> {b.name}, killed during it,"
        self.call(a, b, None, title)
        self.crash(title + " ")
        self.hang_up(b, title)

    def leave(self):
        a, b = self.a, self.b
        for number, (goer, stayer) in enumerate(((b, a), (a, b))):
            marks = self.marks()
            quit_well = goer.quit()
            checks = [("the phone ends by itself", lambda q=quit_well: q)]
            if not self.forgotten(goer, 0):
                checks += [self.sees(stayer, False, marks[1 if stayer is b else 0]),
                           self.passed("NOTIFY with nothing open", self.not_open(stayer, goer), marks[2])]
            self.step(f"{goer.name} logs out, {stayer.name} sees it", *checks)
            if number == 0:
                texts = [self.write_away(stayer, goer, text) for text in ("good night", "sleep well")]
                marks = self.marks()
                goer.start()
                self.step(f"{goer.name} comes back, both see each other", self.sees(stayer, True, marks[0]),
                          self.sees(goer, True, marks[1]))
                self.step(f"{goer.name} gets what came meanwhile",
                          *(self.heard(goer, goer.got + text, marks[1]) for text in texts))
                self.follow(stayer, marks[2])
        b.quit()
        if self.key:
            mark = self.key.mark()
            self.step(f"{b.name}'s lamp is taken away", ("200 to SUBSCRIBE", lambda: self.key.watch(0) == 200),
                      ("terminated", lambda: self.key.shows("terminated", mark, STEP)))

    def write_away(self, sender, receiver, words):
        marks = self.marks()
        text = f"{words} {receiver.name}"
        sender.message(text)
        self.step(f"message {sender.name} -> {receiver.name}, who is away: {words}",
                  self.passed("202 to MESSAGE", self.answered("MESSAGE", 202, sender.name), marks[2]))
        return text

    def follow(self, sender, mark):
        """What became of the last message."""
        if not self.wire:
            return
        copies = self.wire.since(mark, lambda m: m.is_request("MESSAGE") and not m.to_server and m.user("from") == sender.name)
        asked = self.server.command("message", "trace", copies[-1].header("call-id") if copies else "")
        self.step(f"the message of {sender.name} is followed", ("to its end", lambda: "delivered, and gone" in asked.stdout))
        self.show(asked.stdout)

    def not_open(self, watcher, about):
        """Closed, active; or pending, when the subscription of the one who goes was what made it active."""
        active, pending = (self.notify(watcher.name, about.name, state) for state in ("active", "pending"))
        return lambda m: (active(m) or pending(m)) and ">open<" not in m.body

    def end(self):
        self.a.kill()
        self.b.kill()
        for lamp in (self.key, self.desk):
            if lamp:
                lamp.close()


def free_ports(start, wanted):
    """A stretch of ports below the ephemeral ones in which nothing listens."""
    for first in range(start, 28000, 100):
        try:
            for port in (first, *wanted(first)):
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    with socket.socket(socket.AF_INET, kind) as probe:
                        probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
    raise SystemExit("no free ports")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="path of the program hither")
    parser.add_argument("--database", help="as in hither's configuration; without it an SQLite file that is thrown away")
    parser.add_argument("--cast", default="lb,bl,bb,ll", help="who plays: l linphone, b baresip, A then B")
    parser.add_argument("--keep", action="store_true", help="keep the logs even if all passed")
    chosen = parser.parse_args()
    casts = []
    for cast in chosen.cast.split(","):
        if cast not in USERS:
            parser.error(f"no cast {cast}: one of {', '.join(USERS)}")
        missing = sorted({KINDS[k].program for k in cast if not KINDS[k].installed()})
        if missing:
            print(f"SKIP {cast}: not installed: {', '.join(missing)}", flush=True)
        else:
            casts.append(cast)
    work = tempfile.mkdtemp(prefix="scene-")
    port = free_ports(23000, lambda first: [first + 20 * n + p for n in range(1, 5) for p in (0, 10)])
    places = [(cast, port + 20 * (number + 1)) for number, cast in enumerate(casts)]
    server = Server(os.path.abspath(chosen.server), work, port, chosen.database)
    for cast in casts:
        for name in USERS[cast]:
            server.account(name)
    wire = Wire.open(port, [p + q for _, p in places for q in (0, 10)], os.path.join(work, "wire.txt"))
    if wire is None:
        print("NOTE no right to listen on lo: by the phones' logs alone", flush=True)
    failures, play = 0, None
    try:
        server.start()
        for cast, first in places:
            play = Play(cast, server, wire, first, work)
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
    passed = "all passed" if casts else "nothing played"
    print(f"{failures} failed" if failures else passed, flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
