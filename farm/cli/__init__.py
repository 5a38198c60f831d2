"""The ``farm`` command.

The only package that may import all others. It promises: an answer goes to stdout and everything
else to stderr; ``--json`` makes the answer one JSON document; what goes wrong is one line that says
what happened, to what, and what to do; the exit code names the kind of failure (``exitcodes``).
Commands import what they need when they run, so that ``farm --help`` is quick.
"""
