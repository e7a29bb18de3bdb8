"""A drop's fingerprint changes with the images that its rows name, wherever these lie."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adclick.components.ad_example_gen.outside_images import DropFolder, states_now, write_states
from adclick.pipeline.drops import Drop
from adclick.pipeline.runs.outside_images import with_outside_images
from adclick.pipeline.runs.record import MonthRecord, RunRecord


def test_a_folder_covers_what_lies_in_it_without_a_link(tmp_path: Path) -> None:
    drop, shared = tmp_path / "2026-10", tmp_path / "shared"
    for folder in (drop / "images", shared):
        folder.mkdir(parents=True)
    (drop / "linked").symlink_to(shared)
    folder = DropFolder(str(drop))
    covered = {name: folder.covers(f"{drop}/{name}") for name in ("a.jpg", "images/a.jpg", "images/../a.jpg")}
    assert all(covered.values()), covered
    outside = ["../shared/a.jpg", "linked/a.jpg", "../2026-10-2/a.jpg"]
    assert not any(folder.covers(f"{drop}/{address}") for address in outside)
    assert not folder.covers(f"{shared}/a.jpg") and not folder.covers("gs://ads/a.jpg")
    assert not DropFolder(str(drop / "log.csv"), is_folder=False).covers(f"{drop}/images/a.jpg")
    bucket = DropFolder("gs://ads/2026-10")
    assert bucket.covers("gs://ads/2026-10/a.jpg") and not bucket.covers("gs://ads/2026-10/../a.jpg")


@pytest.fixture
def drop() -> Drop:
    return Drop("2026-10", 202610, "/drops/2026-10", "f00d")


def record(drop: Drop, creatives: Path, *, run: str = "1", **artifacts: list[str]) -> RunRecord:
    month = MonthRecord(name=drop.name, uri=drop.uri, fingerprint=drop.fingerprint, version=1, gate_key="")
    return RunRecord(
        run_id=run,
        input_key="",
        config={},
        baseline=None,
        started=datetime(2026, 11, 1, tzinfo=UTC),
        window=[month],
        artifacts={f"AdExampleGen-{drop.name}.creatives": [str(creatives)]} | artifacts,
    )


def test_a_replaced_image_changes_the_fingerprint_and_only_once(drop: Drop, tmp_path: Path) -> None:
    images = [tmp_path / "a\tb.jpg", tmp_path / "gone\n.jpg"]
    images[0].write_bytes(b"one")

    def ingest(found: Drop, run: str) -> RunRecord:
        creatives = tmp_path / f"creatives-{run}"
        addresses = [str(image) for image in images]
        write_states(f"{creatives}/outside_images-00000.jsonl", zip(addresses, states_now(addresses), strict=True))
        return record(found, creatives, run=run)

    assert with_outside_images([drop], []) == [drop], "what the first run will find, nobody knows"
    records = [ingest(drop, "1")]
    assert with_outside_images([drop], records) == [drop]

    images[0].write_bytes(b"two")
    os.utime(images[0], ns=(1, 1))
    (changed,) = with_outside_images([drop], records)
    assert changed.fingerprint.startswith("f00d.")
    records.append(ingest(changed, "2"))
    assert with_outside_images([drop], records) == [changed]

    images[1].write_bytes(b"there now")
    (again,) = with_outside_images([drop], records)
    assert again.fingerprint not in (drop.fingerprint, changed.fingerprint)


def test_what_is_gone_or_of_another_delivery_says_nothing(drop: Drop, tmp_path: Path) -> None:
    other = Drop(drop.name, drop.span, drop.uri, "beef")
    assert with_outside_images([drop], [record(drop, tmp_path / "cleaned")]) == [drop]
    assert with_outside_images([other], [record(drop, tmp_path / "cleaned")]) == [other]
