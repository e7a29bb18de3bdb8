"""What one run on a platform works on: the months, the schema, and the model to beat, found before the DAG is built.

The same is done for a local run. What each submission was judged by is kept beside the artifacts: the same input
submitted again meets the same baseline, and the platform reuses every step.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from adclick.components.ad_example_gen.drop_names import PassedOver
from adclick.pipeline.config.schema_file import publish_schema, read_schema
from adclick.pipeline.config.settings import Config
from adclick.pipeline.drops import Drop, find_drops, find_passed_over
from adclick.pipeline.runs.identity import baseline_to_beat, input_key
from adclick.pipeline.runs.record_store import new_run_id
from adclick.schema.errors import ConfigError
from adclick.storage import filesystem

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
        run_id: The run's name in its `output`; the same input by the same image, submitted again, is the same run.
        passed_over: What of the data root is not read.
    """

    drops: list[Drop]
    schema_file: str
    baseline: str | None
    push_base: str
    pipeline_root: str
    key: str
    run_id: str
    passed_over: PassedOver = field(default_factory=PassedOver)

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
    key = input_key(config, drops)
    submitted = _submission(config, key)
    return Window(
        drops=drops,
        schema_file=schema_file,
        baseline=baseline_to_beat(push_base, [submitted["baseline"]] if submitted else []),
        push_base=push_base,
        pipeline_root=config.artifacts,
        key=key,
        run_id=_run_id(config, submitted),
        passed_over=find_passed_over(config.data.root, drops),
    )


def record_submission(config: Config, window: Window, address: str) -> None:
    """Keeps what a submitted run is judged by, and where it runs."""
    path = _record_path(config, window.key)
    filesystem.make_folder(path.rpartition("/")[0])
    record = {
        "baseline": window.baseline,
        "months": [drop.name for drop in window.drops],
        "run": address,
        "run_id": window.run_id,
        "steps": _steps_key(config),
    }
    with filesystem.open_write_atomic(path) as stream:
        stream.write(json.dumps(record, indent=1).encode())


def _record_path(config: Config, key: str) -> str:
    return filesystem.join(config.output, "submissions", f"{key[:32]}.json")


def _submission(config: Config, key: str) -> dict[str, Any]:
    """What was kept of the last submission of this very input; empty if there was none."""
    path = _record_path(config, key)
    if not filesystem.exists(path):
        return {}
    with filesystem.open_read(path) as stream:
        found: dict[str, Any] = json.loads(stream.read())
    return found


def _steps_key(config: Config) -> str:
    """A hash of what decides, beside the input, whether a platform reuses steps."""
    platform = config.platform
    steps = json.dumps([platform.image, platform.caching, platform.beam_arguments], sort_keys=True)
    return hashlib.sha256(steps.encode()).hexdigest()


def _run_id(config: Config, submitted: dict[str, Any]) -> str:
    """The id of the run that did the same, whose steps are reused; or a new one."""
    if config.platform.caching and submitted.get("steps") == _steps_key(config):
        return str(submitted["run_id"])
    return new_run_id(config.output)
