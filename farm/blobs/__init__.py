"""Large payloads in files that the processes of one machine share.

The coordinator has a folder; a peer that really sees it writes its large payloads there, and names
the file in its messages. Promises: a file does not change while anybody has a name for it; it is
there as long as somebody has. So everybody who needs a file has a name of its own for it, a hard
link: the coordinator in ``kept``, each peer in a folder of its own in ``peers``, which is removed
when the peer's lock is free. A file of which the last name is let go is put in ``free`` to be
written again: new pages and blocks cost several times what copying into used ones does.
"""

from farm.blobs.folder import Blobs, Held
from farm.blobs.sharing import Sharing, inlined
from farm.blobs.writer import Writer

__all__ = ["Blobs", "Held", "Sharing", "Writer", "inlined"]
