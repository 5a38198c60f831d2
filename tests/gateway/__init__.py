"""Proof of the gateway: random requests by its own document, and more load than the farm can do."""
