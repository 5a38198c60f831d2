"""What becomes of the fires of one schedule, the slow and obvious way: no heap, no cursor.

Everything is looked at again in each step: which times are undecided, what runs, what waits.
"""

from collections import deque


class Reference:
    """``times``: all nominal times, ascending. ``fates``: what became of each."""

    def __init__(self, schedule, times, end, *, outages=(), pauses=(), seconds=lambda _: 0):
        self.schedule = schedule
        self.times = times
        self.end = end
        self.outages = sorted(outages)
        self.pauses = pauses
        self.seconds = seconds
        self.undecided = deque(times)
        self.running = []  # (when it ends, nominal, outcome)
        self.waiting = []  # nominal
        self.fates = {}
        self.began = {}

    def due(self, nominal):
        return nominal + self.schedule.offset

    def seen(self, at):
        for begin, end in self.outages:
            if begin <= at < end:
                at = end
        return at

    def play(self):
        now = 0
        while True:
            moments = [self.due(self.undecided[0])] if self.undecided else []
            moments += [end for end, _, _ in self.running]
            if self.schedule.deadline is not None:
                moments += [self.due(one) + self.schedule.deadline for one in self.waiting]
            if not moments:
                break
            now = self.seen(max(now, min(moments)))
            if now >= self.end:
                break
            self.step(now)
        for _, nominal, _ in self.running:
            self.fates[nominal] = "running"
        for nominal in self.waiting:
            self.fates[nominal] = "waiting"
        return self.fates

    def step(self, now):
        while ended := [one for one in self.running if one[0] <= now]:
            first = min(ended)
            self.running.remove(first)
            self.fates[first[1]] = f"ran: {first[2]}"
            while self.waiting and not self.running:
                nominal = self.waiting.pop(0)
                if self.too_late(nominal, now):
                    self.fates[nominal] = "skipped: deadline"
                else:
                    self.start(nominal, now)
        for nominal in list(self.waiting):
            if self.too_late(nominal, now):
                self.waiting.remove(nominal)
                self.fates[nominal] = "skipped: deadline"
        due = []
        while self.undecided and self.due(self.undecided[0]) <= now:
            due.append(self.undecided.popleft())
        for nominal in self.choose(due, now):
            self.offer(nominal, now)

    def too_late(self, nominal, now):
        deadline = self.schedule.deadline
        return deadline is not None and now >= self.due(nominal) + deadline

    def choose(self, due, now):
        """Those that are offered to run; the others get their fate here."""
        good = []
        for nominal in due:
            at = self.due(nominal)
            if any(begin <= at < end for begin, end in self.pauses):
                self.fates[nominal] = "skipped: paused"
            elif now - at >= max(self.schedule.catch_up, self.schedule.late_after):
                self.fates[nominal] = "skipped: too old"
            elif self.too_late(nominal, now):
                self.fates[nominal] = "skipped: deadline"
            else:
                good.append(nominal)
        late = [one for one in good if now - self.due(one) > self.schedule.late_after]
        misfire = self.schedule.misfire
        if misfire == "skip":
            dropped, fate = late, "skipped: missed"
        elif misfire.startswith("all"):
            most = int(misfire[4:-1])
            dropped, fate = late[: max(0, len(late) - most)], "skipped: missed"
        else:
            last = next((one for one in good if one not in late), late[-1] if late else None)
            dropped, fate = [one for one in late if one != last], f"coalesced: {last}"
        for nominal in dropped:
            self.fates[nominal] = fate
        return [one for one in good if one not in dropped]

    def offer(self, nominal, now):
        overlap = self.schedule.overlap
        busy = bool(self.running or self.waiting)
        if overlap == "allow" or not busy:
            self.start(nominal, now)
        elif overlap == "skip":
            self.fates[nominal] = "skipped: overlap"
        elif overlap == "cancel":
            for one in self.waiting:
                self.fates[one] = f"coalesced: {nominal}"
            self.waiting = [nominal]
            self.running = [
                (end, one, how) if end <= now else (now, one, "cancelled")
                for end, one, how in self.running
            ]
        else:
            most = 1 if overlap == "buffer_one" else int(overlap[11:-1])
            if len(self.waiting) < most:
                self.waiting.append(nominal)
            else:
                self.fates[nominal] = "skipped: buffer full"

    def start(self, nominal, now):
        self.began[nominal] = now
        self.running.append((now + self.seconds(nominal), nominal, "succeeded"))
