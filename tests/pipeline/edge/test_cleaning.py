"""`adclick edge clean`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from adclick.pipeline.cli.app import app
from adclick.pipeline.edge.cleaning import clean_channels
from adclick.pipeline.edge.publish import run_publish
from adclick.schema.errors import ConfigError
from tests.pipeline.edge.test_publish import bundle


@pytest.fixture
def origin(keys: Path, tmp_path: Path) -> Path:
    """A folder of versions 1 to 5 in channel stable, of which 5 alone is named, and 2 once more in beta."""
    origin = tmp_path / "origin"
    for version in range(1, 6):
        file = bundle(keys, tmp_path / "x.bundle", version)
        for channel in ("stable", "beta") if version == 2 else ("stable",):
            run_publish(file, to=str(origin), channel=channel, share=100, key=keys / "private.pem")
    (origin / "bundles" / "notes.txt").write_text("mine")
    return origin


def versions(origin: Path) -> list[int]:
    return sorted(int(path.name.partition("-")[0]) for path in (origin / "bundles").glob("*.bundle"))


def test_only_what_no_channel_names_goes_the_oldest_first(origin: Path) -> None:
    before = {path: path.read_bytes() for path in origin.glob("*.json")}
    assert len(clean_channels(str(origin), keep=1, dry_run=True).deleted) == 2
    assert versions(origin) == [1, 2, 3, 4, 5], "that was a dry run"
    cleaned = clean_channels(str(origin), keep=1, dry_run=False)
    assert versions(origin) == [2, 4, 5]
    assert (cleaned.named, cleaned.kept, cleaned.strange) == (2, 1, ("notes.txt",)) and cleaned.size > 0
    assert not clean_channels(str(origin), keep=1, dry_run=False).deleted
    assert len(clean_channels(str(origin), keep=0, dry_run=False).deleted) == 1
    assert {path: path.read_bytes() for path in before} == before


def test_a_channel_that_cannot_be_read_keeps_all(origin: Path, tmp_path: Path) -> None:
    (origin / "beta.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"beta\.json"):
        clean_channels(str(origin), keep=0, dry_run=False)
    assert versions(origin) == [1, 2, 3, 4, 5]
    (tmp_path / "empty").mkdir()
    for folder, reason in ((tmp_path / "none", "no folder"), (tmp_path / "empty", "no channel is there")):
        with pytest.raises(ConfigError, match=reason):
            clean_channels(str(folder), keep=0, dry_run=False)


def test_the_command(origin: Path) -> None:
    done = CliRunner().invoke(app, ["edge", "clean", "--to", str(origin), "--keep", "0"])
    assert done.exit_code == 0 and "Deleted 3 bundles" in done.output and "notes.txt" in done.output
    assert versions(origin) == [2, 5]
