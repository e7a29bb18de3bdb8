"""What a run is, here and on a platform alike: the input that it works on, and the model that it has to beat."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from adclick.pipeline.config.schema_file import schema_digest
from adclick.pipeline.config.settings import Config
from adclick.pipeline.drops import Drop
from adclick.storage import filesystem
from adclick.storage.push_directory import whole_versions

#: How a served model is watched, what devices see by, and where a run runs change no click model.
_CHANGES_NO_MODEL = {"platform", "monitoring", "recognition", "schema_file"}


def input_key(config: Config, drops: Sequence[Drop]) -> str:
    """A hash of a run's input: the config, the schema's content and the months.

    A laptop, CI and a schedule, which keep the schema in different places, have one key.

    Raises:
        ConfigError: The schema cannot be read.
    """
    parts = [
        config.model_dump_json(exclude=_CHANGES_NO_MODEL),
        schema_digest(config),
        *(f"{drop.name} {drop.uri} {drop.fingerprint}" for drop in drops),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def baseline_to_beat(push_base: str, judged_by: Iterable[str | None]) -> str | None:
    """The pushed version to beat: the newest, or what this very input was judged by before; None without any.

    Args:
        push_base: Where versions are pushed.
        judged_by: The baselines of earlier runs on the same input, the latest first; one that is no longer there, as it
            was rolled back or deleted, counts no more.
    """
    versions = [filesystem.join(push_base, str(version)) for version in whole_versions(push_base)]
    known = {None, *versions}
    newest = versions[-1] if versions else None
    return next((baseline for baseline in judged_by if baseline in known), newest)
