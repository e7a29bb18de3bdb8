"""When the monthly pipeline runs."""

from __future__ import annotations

import re
from dataclasses import dataclass

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


def check_cron(schedule: Schedule) -> None:
    """Checks what can be checked before a platform is asked.

    Raises:
        ConfigError: It is not five fields.
    """
    fields = schedule.cron.split()
    if len(fields) != 5 or not all(_FIELD.fullmatch(field) for field in fields):
        raise ConfigError(f"--cron {schedule.cron!r}: not a cron schedule of five fields", _REMEDY)
