"""The HTTP gateway: registered functions for those who have no Python.

A gateway is a client of the coordinator like any other, with a session of its own; what it has
answered 202 for is with the coordinator, and outlives it. Arguments and results are JSON: nothing
is unpickled here. ``guard`` refuses what must not be read, ``submitting`` and ``reading`` are what
requests come to, ``app`` names the routes, ``service`` runs it all as a process.
"""
