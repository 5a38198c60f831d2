"""Which fires are due, and what becomes of each: the brain of the scheduler, without IO or clock.

``Machine`` is told what happens, and when; it answers through a ``Port``. Every nominal time of a
schedule ends as exactly one ``Row``. ``schedule`` says what a schedule may say, ``deciding`` what
becomes of a fire, ``timing`` when there is one.
"""

from farm_scheduler.core.backfills import Backfill
from farm_scheduler.core.entry import Entry, Pause
from farm_scheduler.core.fires import Port
from farm_scheduler.core.kept import Kept
from farm_scheduler.core.machine import Machine
from farm_scheduler.core.rows import Kind, Row, State, fire_id
from farm_scheduler.core.schedule import Schedule
from farm_scheduler.core.timing import Timing

__all__ = [
    "Backfill",
    "Entry",
    "Kept",
    "Kind",
    "Machine",
    "Pause",
    "Port",
    "Row",
    "Schedule",
    "State",
    "Timing",
    "fire_id",
]
