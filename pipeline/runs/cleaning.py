"""`adclick clean`: old versions and artifacts go; what is served, held or compared with stays."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

from adclick.components.ad_example_gen.creative_store import CreativeStore
from adclick.models.images import decoding_rule
from adclick.pipeline.config.settings import Config
from adclick.pipeline.dag import creative_store
from adclick.pipeline.runs.local import metadata_config
from adclick.pipeline.runs.record import read_records
from adclick.pipeline.runs.record_store import record_folder
from adclick.storage import bucket, filesystem
from adclick.storage.model_versions import ModelVersions

_RECOGNITION_FILE = "recognition.json"


@dataclass(frozen=True)
class Cleaning:
    """What is to go.

    Attributes:
        versions: Folders of versions.
        artifacts: Folders of artifacts.
        size: Bytes in all of them.
    """

    versions: list[str]
    artifacts: list[str]
    size: int


def plan_cleaning(config: Config, keep_versions: int, keep_runs: int) -> Cleaning:
    """Finds what `clean` would delete.

    Kept are: the served version and the newest of the others; the baselines of the newest runs; the artifacts of the
    newest runs, of the newest runs that trained a recogniser, and of the runs that pushed a kept version.

    Args:
        config: The config.
        keep_versions: How many versions stay of those that are served, held and withdrawn, each.
        keep_runs: How many finished runs keep their artifacts.
    """
    versions = ModelVersions(config.push_base)
    records = [record for record in read_records(config.output) if record.finished is not None]
    newest = records[-keep_runs:]
    baselines = {record.baseline for record in newest}
    old, kept = [], set()
    for folder, numbers in (
        (versions.served_folder, versions.served),
        (versions.held_folder, versions.held),
        (versions.withdrawn_folder, versions.withdrawn),
    ):
        for number in numbers:
            address = os.path.join(folder, str(number))
            if number in numbers[-keep_versions:] or address in baselines:
                kept.add(number)
            else:
                old.append(address)
    behind = [record for record in records if record in newest or record.pushed_version in kept]
    used = {uri for record in behind for uris in record.artifacts.values() for uri in uris}
    artifacts = _unused_artifacts(config.artifacts, used | _artifacts_of_recognition(config.output, keep_runs))
    return Cleaning(old, artifacts, sum(_size(folder) for folder in (*old, *artifacts)))


def clean(config: Config, cleaning: Cleaning) -> None:
    """Deletes what was planned; the metadata store says so of each artifact before it goes."""
    store = metadata_store.MetadataStore(metadata_config(config.output))
    gone = set(cleaning.artifacts)
    deleted = [artifact for artifact in store.get_artifacts() if artifact.uri in gone]
    for artifact in deleted:
        artifact.state = metadata_store_pb2.Artifact.DELETED
    if deleted:
        store.put_artifacts(deleted)
    for folder in (*cleaning.versions, *cleaning.artifacts):
        filesystem.delete(folder)


def forget_creatives(config: Config, days: int, *, dry_run: bool) -> tuple[int, list[str]]:
    """Deletes the decoded creatives that no ingestion has met for some days.

    Returns:
        How many are deleted, or would be, and what is wrong with their store.
    """
    path = creative_store(config)
    if path is None or not os.path.exists(path):
        return 0, []
    with CreativeStore(path, decoding_rule(config.ingestion.image_size)) as store:
        return store.forget_unused(days, dry_run=dry_run), store.troubles


def keep_artifacts(output: str, run_id: str, artifacts: Sequence[str]) -> None:
    """Notes the folders of artifacts that a run of the recognition pipeline made or reused."""
    with filesystem.open_write_atomic(str(record_folder(output, run_id) / _RECOGNITION_FILE)) as stream:
        stream.write(json.dumps({"artifacts": sorted(artifacts)}, indent=1).encode())


def _artifacts_of_recognition(output: str, runs: int) -> set[str]:
    """What the newest runs of the recognition pipeline noted; run ids begin with their time."""
    notes = sorted(
        record_folder(output, "any").parent.glob(f"*/{_RECOGNITION_FILE}"), key=lambda file: file.parent.name
    )
    return {uri for note in notes[-runs:] for uri in json.loads(note.read_text(encoding="utf-8"))["artifacts"]}


def _unused_artifacts(root: str, used: Collection[str]) -> list[str]:
    """Folders `COMPONENT/OUTPUT/NUMBER` that no run keeps; those of killed runs are among them."""
    return [folder for folder in _below(root, depth=3) if folder not in used]


def _below(folder: str, depth: int) -> list[str]:
    if not depth:
        return [folder]
    if not filesystem.isdir(folder):
        return []
    names = sorted(name for names in filesystem.list_entries(folder) for name in names)
    return [found for name in names if name[0] not in "._" for found in _below(os.path.join(folder, name), depth - 1)]


def _size(folder: str) -> int:
    if "://" in folder:
        return sum(found.size for found in bucket.objects_below(folder))
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
