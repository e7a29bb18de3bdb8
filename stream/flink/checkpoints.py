"""Where a job's checkpoints are, and the newest of them, from which the next job goes on."""

from __future__ import annotations

import hashlib
from pathlib import Path

from adclick.schema.errors import ConfigError
from adclick.storage import filesystem
from adclick.stream.settings import StreamSettings


def checkpoint_folder(settings: StreamSettings, default: Path) -> str:
    """The folder, or the URI, of the checkpoints of these features: a state of others is none to go on from."""
    declared = settings.model_dump_json(include={"features": True, "events": True})
    base = settings.flink.checkpoints or str(default.absolute())
    return filesystem.join(base, f"{settings.kafka.group}-{hashlib.sha256(declared.encode()).hexdigest()[:12]}")


def newest_checkpoint(folder: str) -> str | None:
    """The newest whole checkpoint below a folder, whichever job wrote it; None where there is none.

    Checkpoints are numbered; a job that goes on from one goes on with its number.
    """
    found: list[tuple[int, str]] = []
    if filesystem.isdir(folder):
        for job in filesystem.list_folders(folder):
            for checkpoint in filesystem.list_folders(filesystem.join(folder, job)):
                name, _, number = checkpoint.partition("-")
                path = filesystem.join(folder, job, checkpoint)
                if name == "chk" and number.isdecimal() and filesystem.isfile(filesystem.join(path, "_metadata")):
                    found.append((int(number), path))
    return max(found)[1] if found else None


def check_beginning(settings: StreamSettings, folder: str, topics: list[str]) -> None:
    """Sees that a job without a checkpoint is the first: it would compute anew what was computed before.

    Raises:
        ConfigError: It is not.
        BrokerUnreachable: The broker does not answer.
    """
    from adclick.stream.flink.job import consumer_group
    from adclick.stream.kafka.topics import partitions_of
    from adclick.stream.metrics import StreamMetrics
    from adclick.stream.stages.reading import PartitionReader

    group = consumer_group(settings)
    reader = PartitionReader(settings.kafka, group, partitions_of(settings.kafka, topics), StreamMetrics())
    try:
        committed, _ = reader.committed()
    finally:
        reader.close()
    if any(committed.values()):
        raise ConfigError(
            f"{group} has read from Kafka before, but {folder} has no checkpoint of these features to go on from",
            "Name the folder that it had (stream.flink.checkpoints); for other features, or to begin anew, name "
            "another stream.kafka.group and other topics.",
        )
