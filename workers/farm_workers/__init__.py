"""The host: an agent process that runs tasks in worker processes, one task in each at a time.

Promises: the agent runs no user code, so no task can make its host look dead. A task that kills
its worker costs nobody else anything; a worker that died is replaced at once. Outcomes are kept
until the coordinator has committed them, through disconnections and its restarts.

Started as ``python -m farm_workers --settings FILE``; nothing else is imported from here.
"""

__all__: list[str] = []
