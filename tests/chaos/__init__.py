"""Real processes under real signals, and a checker of what they did: ``python -m tests.chaos``."""
