"""The client: submits tasks to a farm and has their outcomes.

``session*.py`` is the pure machine that decides what is said to the coordinator; ``loop.py`` is the
one IO thread around it; ``client.py`` and ``view.py`` are what people use, from any thread. No code
of users runs on the IO thread, and nothing that the network does raises there: a lost connection is
opened again, and whatever waits goes on waiting.
"""
