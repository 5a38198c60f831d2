"""A simulated process around one pure machine: its clock, its timer, its pauses, its death."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.sim.truth import Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sim.clock import Event
    from tests.sim.world import World

__all__ = ["Process"]

NEVER = float("inf")
THAW_SECONDS = 0.02
SPINS_MAX = 5
"""Wake-ups in a row that a machine may ask for without letting time pass."""


class Process:
    """One incarnation of a machine; a restart makes a new one.

    Its monotonic clock has an offset of its own, so that times of two processes never compare.
    While it is paused (SIGSTOP, a held GIL, a slow disk) what happens to it waits.
    """

    machine: Any = None
    side = ""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self._clock = world.clock
        self.name = name
        self.who = world.owners.identity(name, self.side)
        self.alive = True
        self.paused = False
        self.asleep = 0.0  # how long it was paused in all, in seconds
        self._paused_at = 0.0
        self._waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._offset = world.chance.uniform(1.0, 1e6)
        self._timer: Event | None = None
        self._deadline: float | None = None
        self._spins = 0

    @property
    def now(self) -> float:
        """This process's monotonic clock."""
        return self._clock.now + self._offset

    def do(self, action: Callable[..., None], *arguments: Any) -> None:
        """Something happens to the process: now, after its pause, or never if it is dead."""
        if not self.alive:
            return
        if self.paused:
            self._waiting.append((action, arguments))
            return
        self._act(action, arguments)
        self._arm()

    def _act(self, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._spins = 0
        action(*arguments)

    def later(self, delay: float, action: Callable[..., None], *arguments: Any) -> Event:
        return self.world.clock.after(delay, self.do, action, *arguments)

    def after_turn(self) -> None:
        """The machine has had its turn; the shell may look at it."""

    def pause(self, seconds: float) -> None:
        """It does not run for a time; now and then its sockets do not run either (SIGSTOP)."""
        if self.alive and not self.paused:
            self.paused = True
            self._paused_at = self.world.clock.now
            frozen = self.world.chance.random() < 0.5
            self.world.clock.after(seconds, self._thaw if frozen else self.resume)

    def _thaw(self) -> None:
        """It looks at its timers before what was sent to it meanwhile has come in."""
        if self.alive and self.paused:
            self._count_sleep()
            self.machine.on_tick(self.now)
            self.after_turn()
            self.world.clock.after(THAW_SECONDS, self.resume)

    def _count_sleep(self) -> None:
        self.asleep += self.world.clock.now - self._paused_at
        self._paused_at = self.world.clock.now

    def resume(self) -> None:
        """What waited is handled first, as a loop drains its sockets before it looks at timers."""
        if not self.alive or not self.paused:
            return
        self.paused = False
        self._count_sleep()
        waiting, self._waiting = self._waiting, []
        for action, arguments in waiting:
            if self.alive:
                self._act(action, arguments)
        self._arm()

    def die(self) -> None:
        self.alive = False
        self._waiting.clear()
        if self._timer:
            self._timer.cancel()

    def _arm(self) -> None:
        if not self.alive or self.machine is None:
            return
        deadline = self.machine.next_deadline()
        if deadline == self._deadline and self._timer is not None:
            return
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._deadline = deadline
        if deadline is not None and deadline < NEVER:
            late = self.world.chance.choice((0.0, 0.0, 0.002))
            wait = max(deadline - self.now, 0.0) + late
            if not wait and not self.paused:
                self._wake()  # the same turn goes on
            else:
                self._timer = self.world.clock.after(wait, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if not self.alive or self.paused:
            return
        before = self._deadline
        now = max(self.now, before or 0.0)  # a loop never wakes before its time
        self.machine.on_tick(now)
        self.after_turn()
        self._spins += 1
        self._arm()
        if self._deadline is None or self._deadline > now:
            self._spins = 0
        elif self._spins > SPINS_MAX:
            raise Violation("spinning", f"{self.name} asks to be woken at once, again and again")
