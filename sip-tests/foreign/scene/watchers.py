"""The list of who watches and who asks to (RFC 3857), scripted: neither Linphone nor baresip asks for it."""

import re
import time

from lamp import Lamp, value
from server import DOMAIN

TYPE = "application/watcherinfo+xml"


class Watchers(Lamp):
    """What `name`'s own telephone would show of who watches `name`."""

    def __init__(self, name, server_port):
        super().__init__(name, name, server_port)

    def watch(self, expires=600):
        """Subscribes, or refreshes, or ends with 0; gives the status."""
        target = self.dialog.get("target", f"sip:{self.name}@{DOMAIN}")
        rows = ["Event: presence.winfo", f"Accept: {TYPE}", f"Expires: {expires}"]
        status, answer = self.ask("SUBSCRIBE", target, rows, self.dialog)
        if status == 200:
            self.dialog["to"] = value(answer, "to")
            self.dialog["target"] = value(answer, "contact").strip("<>")
        return status

    def told(self, after, user, statuses, deadline):
        """The first word after `after` that `user` is in one of these; gives status and event."""
        end = time.monotonic() + deadline
        with self.changed:
            while True:
                for _, body in self.notifies[after:]:
                    for attributes in re.findall(rf"<watcher ([^>]*)>sip:{user}@", body):
                        said = dict(re.findall(r'([\w-]+)="([^"]*)"', attributes))
                        if said["status"] in statuses:
                            return said["status"], said["event"]
                left = end - time.monotonic()
                if left <= 0:
                    return None
                self.changed.wait(left)
