"""What a type checker knows of schedules in Python; checked by mypy, never run."""

from datetime import timedelta
from typing import assert_type

from farm_scheduler import Interval, Schedule, schedule


@schedule(cron="@hourly", tz="Europe/Berlin", overlap="skip")
def crunch(interval: Interval, *, deep: bool = False) -> float:
    return (interval.end - interval.start).total_seconds() * deep


@schedule("nightly", cron="@daily")
def report() -> str:
    return ""


assert_type(report(), str)
Schedule("a", cron="@daily", run=crunch, kwargs={"deep": True}, jitter=timedelta(minutes=1))
Schedule("b", cron="@daily", command=["true"], catch_up="2h", deadline=90)
Schedule("c", run=report)  # type: ignore[call-arg]
Schedule("d", cron="@daily", run=report, overlapp="skip")  # type: ignore[call-arg]
