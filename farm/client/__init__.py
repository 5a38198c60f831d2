"""The client: submit tasks, and get their outcomes."""
