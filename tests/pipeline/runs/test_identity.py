"""What a run is, wherever it runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from adclick.pipeline.config.settings import Config, load_config
from adclick.pipeline.drops import Drop, find_drops
from adclick.pipeline.runs.identity import baseline_to_beat, input_key
from adclick.pipeline.targets.window import resolve_window
from tests.pipeline.targets.projects import project_with_drops


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return project_with_drops(tmp_path, "2026-09", "2026-10")


def drops_of(config: Config) -> list[Drop]:
    return find_drops(config.data.root, config.data.window)


def changed(config: Config, **sections: object) -> Config:
    """The config with other sections, read anew from its file."""
    file = Path(config.schema_file).with_name("changed.yaml")
    document = yaml.safe_load(file.with_name("config.yaml").read_text())
    file.write_text(yaml.safe_dump({**document, **sections}, sort_keys=False))
    return load_config(file)


def test_a_run_here_and_one_on_a_platform_know_an_input_by_the_same_key(config: Config) -> None:
    assert input_key(config, drops_of(config)) == resolve_window(config).key


def test_what_changes_no_model_changes_no_key(config: Config, tmp_path: Path) -> None:
    drops = drops_of(config)
    key = input_key(config, drops)
    copy = tmp_path / "elsewhere" / "schema.pbtxt"
    copy.parent.mkdir()
    shutil.copy(config.schema_file, copy)
    assert input_key(config.model_copy(update={"schema_file": str(copy)}), drops) == key
    assert input_key(changed(config, platform={"image": "other"}), drops) == key


def test_config_schema_and_data_change_the_key(config: Config) -> None:
    drops = drops_of(config)
    keys = [
        input_key(config, drops),
        input_key(config, drops[1:]),
        input_key(changed(config, training={"learning_rate": 0.5}), drops),
    ]
    (Path(config.data.root) / "2026-10" / "impressions.csv").write_text("impression_id,clicked\n1,1\n2,0\n")
    keys.append(input_key(config, drops_of(config)))
    with Path(config.schema_file).open("a") as stream:
        stream.write("# reviewed\n")
    keys.append(input_key(config, drops))
    assert len(set(keys)) == len(keys)


def test_an_input_is_judged_by_what_it_was_judged_by_before(tmp_path: Path) -> None:
    base = str(tmp_path)
    assert baseline_to_beat(base, []) is None
    versions = []
    for version in (7, 10):
        folder = tmp_path / str(version)
        folder.mkdir()
        (folder / "saved_model.pb").touch()
        versions.append(str(folder))
    assert baseline_to_beat(base, []) == versions[1]
    assert baseline_to_beat(base, [versions[0], versions[1]]) == versions[0]
    assert baseline_to_beat(base, [None]) is None
    assert baseline_to_beat(base, [str(tmp_path / "8"), versions[0]]) == versions[0]
    assert baseline_to_beat(base, [str(tmp_path / "8")]) == versions[1]
