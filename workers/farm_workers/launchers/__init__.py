"""Launchers: they start agents on other machines, keep them running, and stop them.

``ssh`` is the one there is: OpenSSH, as a child process for each host. ``farm launch`` runs it.

Promises: a host that cannot be had costs the others nothing, and says in one line what is wrong
and what to do. A token is never on a command line. If the launcher dies, its agents finish what
they run and leave, unless they are to stay or another launcher takes over.
"""

__all__: list[str] = []
