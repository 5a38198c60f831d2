"""Frames, records and pipe messages that nobody should send: ``python -m tests.fuzz``."""
