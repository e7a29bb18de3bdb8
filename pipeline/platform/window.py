"""What one run on a platform works on: the months, the schema, and the model to beat, found before the DAG is built.

The same is done for a local run. A platform has no run records here, so what each submission was judged by is kept
beside the artifacts: the same input submitted again meets the same baseline, and the platform reuses every step.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from components import filesystem
from pipeline.config import Config
from pipeline.drops import Drop, find_drops
from pipeline.schema_file import publish_schema, read_schema
from schema.errors import ConfigError
from serving.versions import whole_versions

#: As a month: the newest that there is when the window is resolved.
LATEST = "latest"


@dataclass(frozen=True)
class Window:
    """A run's inputs.

    Attributes:
        drops: The months, the oldest first.
        schema_file: The schema, at an address that changes with its content.
        baseline: The pushed version to beat; None on the first run.
        push_base: Where blessed models go.
        pipeline_root: Where artifacts go.
        key: A hash that changes with the config and the data.
    """

    drops: list[Drop]
    schema_file: str
    baseline: str | None
    push_base: str
    pipeline_root: str
    key: str

    @property
    def months(self) -> str:
        return ", ".join(drop.name for drop in self.drops)


def resolve_window(config: Config, month: str = LATEST, months: int = 0) -> Window:
    """Finds what a run works on; writes the schema to where the steps can read it.

    Args:
        config: The config.
        month: The newest month, such as 2026-10, or `latest`.
        months: How many months, the newest included; `data.window` if 0.

    Raises:
        ConfigError: The data root, the month or the schema does not fit the config.
    """
    if months < 0:
        raise ConfigError(f"a window of {months} months", "Give 1 or more, or 0 for data.window of the config.")
    read_schema(config)
    drops = find_drops(config.data.root, months or config.data.window, None if month == LATEST else month)
    schema_file = publish_schema(config)
    push_base = config.push_base
    key = _key(config, schema_file, drops)
    return Window(
        drops=drops,
        schema_file=schema_file,
        baseline=_baseline(config, key, push_base),
        push_base=push_base,
        pipeline_root=config.artifacts,
        key=key,
    )


def record_submission(config: Config, window: Window, address: str) -> None:
    """Keeps what a submitted run is judged by, and where it runs."""
    path = _record_path(config, window.key)
    filesystem.make_folder(path.rpartition("/")[0])
    record = {"baseline": window.baseline, "months": [drop.name for drop in window.drops], "run": address}
    with filesystem.open_write_atomic(path) as stream:
        stream.write(json.dumps(record, indent=1).encode())


def _key(config: Config, schema_file: str, drops: list[Drop]) -> str:
    parts = [
        config.model_dump_json(exclude={"platform"}),
        schema_file,
        *(f"{drop.name} {drop.uri} {drop.fingerprint}" for drop in drops),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _record_path(config: Config, key: str) -> str:
    return filesystem.join(config.output, "submissions", f"{key[:32]}.json")


def _baseline(config: Config, key: str, push_base: str) -> str | None:
    """The pushed version to beat: the newest, or, where this very input was submitted before, what it was judged by."""
    path = _record_path(config, key)
    versions = [filesystem.join(push_base, str(version)) for version in whole_versions(push_base)]
    if filesystem.exists(path):
        with filesystem.open_read(path) as stream:
            recorded = json.loads(stream.read())["baseline"]
        if recorded is None or recorded in versions:
            return recorded
    return versions[-1] if versions else None
