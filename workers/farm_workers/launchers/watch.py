"""One host of a launcher, as a machine without IO: what it does, and when it is to be started.

    queued -> connecting -> starting -> works <-> away, troubled
       ^                                  |
       +---- pause (jittered backoff) <---+--> draining -> left
                                          |
    failed: a person must do something <--+

A connection that could not be made is tried again for as long as it takes; an agent that was
there and died is started anew only so often in a time.
"""

from collections import deque
from collections.abc import Callable

from farm_workers.launchers.hosts import HostEntry
from farm_workers.launchers.orders import Said
from farm_workers.launchers.ssh import SSH_FAILED, Why, why_ended
from farm_workers.settings import ExitCode

__all__ = ["STATES", "Watch"]

STATES = (
    "queued", "connecting", "starting", "works", "away", "troubled", "draining", "pause", "left",
    "failed",
)  # fmt: skip
"""All that a host may be in, as ``--json`` says it."""
PAUSE_SECONDS = 1.0
PAUSE_SECONDS_MAX = 60.0
SOUND_SECONDS = 60.0
"""An agent that has worked for so long has nothing to do with the failures before it."""
HELLO_SECONDS = 60.0
"""How long ``ssh`` may take until the other side has said something."""
NEVER = float("inf")
FINAL = frozenset({ExitCode.CONFIG, ExitCode.REFUSED})
_OVER = frozenset({"left", "failed"})
_UP = frozenset({"starting", "works", "away", "troubled", "draining"})


class Watch:
    """``state`` and ``text`` say how it is; ``said`` is what the agent has said last.

    ``due`` is when it is to be started, or given up on while it connects. ``jitter`` gives a factor
    for each pause.
    """

    def __init__(self, entry: HostEntry, jitter: Callable[[], float], now: float) -> None:
        self.entry = entry
        self.state = "queued"
        self.text = ""
        self.said: Said | None = None
        self.since = now
        self.due = now
        self.restarts = 0
        self._jitter = jitter
        self._pauses = 0
        self._began: float | None = None
        self._leaving = False
        self._times: deque[float] = deque(maxlen=entry.restarts + 1)

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in _OVER

    @property
    def wants_start(self) -> bool:
        """Whether it waits to be started, at ``due``."""
        return self.state in {"queued", "pause"}

    def _become(self, state: str, text: str, now: float) -> None:
        if state != self.state:
            self.since = now
        self.state, self.text = state, text

    def started(self, now: float) -> None:
        """``ssh`` runs."""
        self._began, self.said = None, None
        self._become("connecting", "", now)
        self.due = now + HELLO_SECONDS

    def hears(self, said: Said, now: float) -> None:
        """The agent says how it is."""
        if self._began is None:
            self._began, self.due = now, NEVER
        self.said = said
        self._become(said.state if said.state in _UP else "troubled", said.text, now)

    def ended(self, code: int, lines: list[str], now: float) -> None:
        """``ssh`` has ended, with these last lines on its standard error."""
        began, self.due = self._began, NEVER
        code = code if code >= 0 else SSH_FAILED  # ssh itself was killed
        why = why_ended(self.entry, code, lines, began=began is not None)
        if code == ExitCode.OK and began is not None:
            self._become("left", "" if self._leaving else "somebody had it drained", now)
        elif code in FINAL:
            self._become("failed", _last(lines) or f"the agent ended with code {code}", now)
        elif not why.again:
            self._become("failed", why.text, now)
        elif self._leaving:
            self._become("left", why.text, now)
        else:
            self._pause(why, began, now)

    def _pause(self, why: Why, began: float | None, now: float) -> None:
        entry = self.entry
        if began is not None:
            self.restarts += 1
            self._times.append(now)
            often = len(self._times) > entry.restarts
            if often and self._times[0] > now - entry.restarts_within:
                within = f"{entry.restarts_within:g} s"
                text = f"it ended more than {entry.restarts} times within {within}: {why.text}"
                self._become("failed", text, now)
                return
            if now >= began + SOUND_SECONDS:
                self._pauses = 0
        seconds = min(PAUSE_SECONDS * 2**self._pauses, PAUSE_SECONDS_MAX) * self._jitter()
        self._pauses = min(self._pauses + 1, 10)
        self.due = now + seconds
        self._become("pause", why.text, now)

    def fail(self, text: str, now: float) -> None:
        """It cannot even be tried."""
        self._become("failed", text, now)

    def silent(self, now: float) -> bool:
        """Whether ``ssh`` is to be ended: it takes too long."""
        return self.state == "connecting" and now >= self.due

    def leave(self, now: float) -> bool:
        """It is to be started no more; returns whether it has to be told."""
        self._leaving = True
        if self.wants_start:
            self._become("left", "", now)
        return not self.over


def _last(lines: list[str]) -> str:
    """What an agent that cannot serve has said last, without what the logs put before it."""
    last = next((line for line in reversed(lines) if line.strip()), "")
    return last.partition("farm.host ")[2] or last.removeprefix("farm: ")
