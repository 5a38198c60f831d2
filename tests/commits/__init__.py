"""A coordinator that is stopped at every commit, and disks that lose what was not synced.

``python -m tests.commits``. What was acknowledged must be there, and end once, wherever the stop
falls; what cannot be recovered must be refused by name, and never guessed at.
"""
