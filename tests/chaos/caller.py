"""A caller of the gateway in a chaos run, as a process: it submits over HTTP, and reads what became
of it, whatever ends the gateway, the coordinator or a host meanwhile.

``python -m tests.chaos.caller FOLDER URL NAME SEED PARENT``. Its notes are those of a client: every
202 is an acknowledgement, every answer about a task that is over an outcome. Some calls carry an
``Idempotency-Key`` and are sent again until there is a 202, and once more: of these, one may run.
"""

import os
import random
import sys
import time
from pathlib import Path

import httpx

from farm.parent import watch_parent
from tests.chaos.client import Notes

__all__ = ["main"]

TASKS_AT_ONCE = 40
LOOK_SECONDS = 0.05
ANSWER_SECONDS = 20.0
KEYED = 0.3
STATES = {"succeeded": "OK", "dead": "LOST", "failed": "FAILED", "cancelled": "CANCELLED"}


class Caller:
    """Some tasks at a time, until the file ``stop`` is there; then the rest of them."""

    def __init__(self, folder, http, name, chance, notes):
        self.folder = folder
        self.http = http
        self.name = name
        self.chance = chance
        self.notes = notes
        self.waiting = {}  # by task id: its key, or nothing
        self.ended = []
        self.made = 0

    def run(self):
        stop = self.folder / "stop"
        while not stop.exists() or self.waiting:
            while len(self.waiting) < TASKS_AT_ONCE and not stop.exists():
                if not self.submit():
                    break
            time.sleep(LOOK_SECONDS)
            for task in list(self.waiting):
                if not self.read(task):
                    break
        for task in self.ended[-200:]:  # they are still what they were
            while (view := self.ask("GET", f"/v1/tasks/{task}")) is None:
                time.sleep(LOOK_SECONDS)
            self.note(task, view)

    def ask(self, method, path, **more):
        """An answer of 2xx, or None: then it may be asked again."""
        try:
            answer = self.http.request(method, path, **more)
        except httpx.TransportError:
            return None
        if answer.status_code in {404, 410}:
            return {"state": "unknown", "over": True}
        if answer.status_code in {429, 500, 503}:
            self.notes.write("refused", answer.status_code, answer.headers.get("retry-after"))
            if answer.status_code == 500:
                raise AssertionError(f"the gateway has a bug: {answer.text}")
            return None
        return answer.raise_for_status().json()

    def submit(self):
        """Submit one task, or one with a key twice; whether the gateway took it."""
        self.made += 1
        function = self.chance.choice(["chaos.work", "chaos.work", "chaos.once"])
        options = {"max_losses": 0} if function == "chaos.once" else {}
        call = {"function": function, "args": [self.chance.uniform(0, 0.3)], "options": options}
        if self.chance.random() > KEYED or function == "chaos.once":
            taken = self.ask("POST", "/v1/tasks", json=call)
            return taken is not None and self.take(taken["id"], "")
        key = f"{self.name}-{self.made}"
        for _ in range(2):  # that it was taken is known after the first, and it is sent once more
            headers = {"idempotency-key": key}
            while (taken := self.ask("POST", "/v1/tasks", json=call, headers=headers)) is None:
                time.sleep(LOOK_SECONDS)
            self.take(taken["id"], key)
        return True

    def take(self, task, key):
        self.waiting[task] = key
        if key:
            self.notes.write("keyed", key, task)
        else:
            session, _, counter = task.partition("-")
            self.notes.write("ack", session, counter, 1, time.monotonic())
        return True

    def read(self, task):
        """Wait for a task for a while; whether the gateway answered."""
        view = self.ask("GET", f"/v1/tasks/{task}", params={"wait": 0.5})
        if view is None or not view["over"]:
            return view is not None
        key = self.waiting.pop(task)
        if not key:
            self.ended.append(task)
            self.note(task, view)
        else:
            who = view.get("result") or ["-", 0, 0, "-"]
            self.notes.write("kept", key, task, STATES.get(view["state"], "UNKNOWN"), who[3])
        return True

    def note(self, task, view):
        ending = STATES.get(view["state"], "UNKNOWN")
        who = view.get("result") or ["-", 0, 0, "-"]
        self.notes.write("out", task, ending, *who, time.monotonic())


def main(arguments):
    folder, url, name, seed, parent = arguments
    watch_parent(lambda: os._exit(1), None, int(parent))
    notes = Notes(Path(folder, "clients", name))
    with httpx.Client(base_url=url, timeout=ANSWER_SECONDS) as http:
        Caller(Path(folder), http, name, random.Random(f"{seed} {name}"), notes).run()
    notes.write("done", time.monotonic())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
