"""What the monitor last found of a version's traffic against training, kept in the output folder for who shows it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from adclick.storage import filesystem

_FOLDER = "traffic"


class TrafficFinding(BaseModel):
    """What was found of one version.

    Attributes:
        version: The version.
        made_at: When the monitor looked, in seconds since 1970.
        first: The time of the first prediction that it looked at.
        last: That of the last.
        predictions: How many it looked at.
        state: `alarm` if any check is; `in_order` if anything was judged.
        judged: How many checks were judged.
        alarms: What stands further from training than it may, a line each.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: int
    made_at: float
    first: float
    last: float
    predictions: int
    state: Literal["in_order", "alarm", "not_judged"]
    judged: int
    alarms: list[str]


def write_finding(output: str, finding: TrafficFinding) -> None:
    """Keeps a finding in place of the one before, whole or not at all."""
    filesystem.make_folder(filesystem.join(output, _FOLDER))
    with filesystem.open_write_atomic(_file(output, finding.version)) as stream:
        stream.write(finding.model_dump_json(indent=1).encode())


def find_finding(output: str, version: int) -> TrafficFinding | None:
    """The last finding of a version; None if the monitor has never seen its traffic.

    Raises:
        ValueError: It is damaged.
    """
    path = _file(output, version)
    if not filesystem.isfile(path):
        return None
    with filesystem.open_read(path) as stream:
        return TrafficFinding.model_validate_json(stream.read())


def _file(output: str, version: int) -> str:
    return filesystem.join(output, _FOLDER, f"{version}.json")
