"""When the monthly pipeline runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from adclick.pipeline.config.platform import Target
from adclick.schema.errors import ConfigError

_FIELD = re.compile(r"[0-9A-Za-z*/,?#-]+")
_REMEDY = 'Give minute, hour, day of month, month and day of week, such as "0 6 2 * *": the 2nd of each month at 6:00.'


@dataclass(frozen=True)
class Schedule:
    """A schedule as a person gives it.

    Attributes:
        cron: Minute, hour, day of month, month, day of week.
        name: How the platform lists it.
        time_zone: An IANA name, such as Europe/Berlin; the platform's default, UTC as a rule, if empty.
    """

    cron: str
    name: str
    time_zone: str = ""


def check_schedule(schedule: Schedule, target: Target) -> None:
    """Checks what can be checked before a platform is asked.

    Raises:
        ConfigError: It is not five fields, or the time zone is unknown or one that the platform cannot take.
    """
    fields = schedule.cron.split()
    if len(fields) != 5 or not all(_FIELD.fullmatch(field) for field in fields):
        raise ConfigError(f"--cron {schedule.cron!r}: not a cron schedule of five fields", _REMEDY)
    if not schedule.time_zone:
        return
    if target == "kubeflow":
        raise ConfigError(
            "--time-zone: Kubeflow has one time zone for all schedules",
            "It is its API server's CRON_SCHEDULE_TIMEZONE, UTC by default; leave the option out.",
        )
    try:
        ZoneInfo(schedule.time_zone)
    except (KeyError, ValueError, OSError):
        raise ConfigError(
            f"--time-zone {schedule.time_zone!r}: no such time zone", "Give an IANA name, such as Europe/Berlin."
        ) from None
