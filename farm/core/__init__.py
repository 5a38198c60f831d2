"""The coordinator's brain: a state machine without IO, clock, threads or chance.

``Core`` takes one call per message, with the time as an argument, and speaks through a ``Port``.
It promises that no outcome is published before it is committed, none twice, and that every bound
of its settings holds at every moment; ``invariants.check`` verifies this on a live core. It is
called from one thread. Messages it does not expect are counted and dropped; nothing that a peer
sends makes it raise.
"""

from farm.core.core import Core
from farm.core.port import Peer, Port
from farm.core.settings import CoreSettings

__all__ = ["Core", "CoreSettings", "Peer", "Port"]
