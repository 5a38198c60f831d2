"""Half the top speed for long, and whether anything grows: ``python -m tests.soak``."""
