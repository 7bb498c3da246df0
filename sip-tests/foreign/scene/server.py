"""The server under test: a temporary configuration, accounts, start, kill, start again."""

import os
import signal
import subprocess
import time

DOMAIN = "example.org"
PASSWORD = "open sesame 7"


class Server:
    def __init__(self, program, work, port, database):
        self.program, self.work, self.port = program, work, port
        self.config = os.path.join(work, "hither.toml")
        self.log = os.path.join(work, "server.log")
        self.process = None
        database = database or f"sqlite:{work}/hither.sqlite"
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(f'domain = "{DOMAIN}"\ndatabase = "{database}"\n'
                       f'listen = ["udp:127.0.0.1:{port}", "tcp:127.0.0.1:{port}"]\n'
                       f'control_socket = "{work}/control"\n'
                       'log.filter = "debug,sqlx=warn"\n')

    def command(self, *arguments, given=None):
        return subprocess.run([self.program, "--config", self.config, *arguments], input=given, text=True,
                              capture_output=True, timeout=60, check=False)

    def account(self, name):
        """A user without a past: one left over from an earlier play is removed with all it had."""
        self.command("user", "remove", name)
        done = self.command("user", "add", name, "--password-stdin", given=PASSWORD + "\n")
        if done.returncode:
            raise SystemExit(f"no account {name}: {done.stdout}{done.stderr}")

    def start(self, deadline=20):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([self.program, "--config", self.config], stdout=subprocess.PIPE,
                                            stderr=log, stdin=subprocess.DEVNULL, text=True)
        end = time.monotonic() + deadline
        for line in self.process.stdout:
            if line.strip() == "ready":
                return
            if time.monotonic() > end:
                break
        raise SystemExit(f"the server did not get ready, see {self.log}")

    def kill(self):
        """As a power cut does it."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                return None
        return self.process.returncode if self.process else None

    def complaints(self):
        """Log lines that a quiet evening should not have."""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return [line.strip() for line in log if " WARN " in line or " ERROR " in line or "panicked" in line]
