"""Schedules and aggregates: cron in, answers computed in advance out.

This package will promise that every nominal time of a schedule ends as exactly one row of its
ledger (ran, coalesced, or skipped and why), that submitting the same fire twice is one run, and
that a reader of an aggregate only ever sees a complete, immutable version of it. It is a client of
the farm like any other and may be stopped, restarted or run twice without harm.

So far it has ``farm_scheduler.cron``: when a cron expression fires. The farm itself does not need
this package.
"""

__all__: list[str] = []
