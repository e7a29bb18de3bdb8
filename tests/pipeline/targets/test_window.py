"""What a submitted run works on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from adclick.pipeline.config.settings import Config, load_config
from adclick.pipeline.targets.window import record_submission, resolve_window
from adclick.schema.errors import ConfigError
from tests.pipeline.targets.projects import project_with_drops


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return project_with_drops(tmp_path, "2026-08", "2026-09", "2026-10")


def push(config: Config, version: int) -> str:
    folder = Path(config.output) / "serving_model" / "adclick" / str(version)
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    return str(folder)


def names(config: Config, month: str = "latest", months: int = 0) -> list[str]:
    return [drop.name for drop in resolve_window(config, month, months).drops]


def test_the_month_and_the_window_choose_the_drops(config: Config) -> None:
    assert names(config) == ["2026-08", "2026-09", "2026-10"]
    assert names(config, "2026-09") == ["2026-08", "2026-09"]
    assert names(config, months=1) == ["2026-10"]
    with pytest.raises(ConfigError, match="holds no folder 2026-11"):
        resolve_window(config, "2026-11")
    with pytest.raises(ConfigError, match="a window of -1 months"):
        resolve_window(config, months=-1)


def test_what_is_not_read_is_known_and_a_misnamed_month_refused(config: Config) -> None:
    root = Path(config.data.root)
    (root / "2026-10" / "more.orc").touch()
    (root / ".DS_Store").touch()
    passed_over = resolve_window(config).passed_over
    assert (passed_over.unread, passed_over.litter) == (["2026-10/more.orc"], 1)
    (root / "2026_11").mkdir()
    with pytest.raises(ConfigError, match="'2026_11' should be named '2026-11'"):
        resolve_window(config)


def test_a_later_month_is_found_when_the_window_is_resolved_anew(config: Config) -> None:
    shutil.copytree(Path(config.data.root) / "2026-10", Path(config.data.root) / "2026-11")
    assert names(config) == ["2026-09", "2026-10", "2026-11"]


def test_the_baseline_is_the_newest_version(config: Config) -> None:
    assert resolve_window(config).baseline is None
    push(config, 7)
    newest = push(config, 10)
    assert resolve_window(config).baseline == newest


def test_the_same_input_meets_the_same_baseline_again(config: Config) -> None:
    first = resolve_window(config)
    record_submission(config, first, "run-1")
    version = push(config, 7)  # what that run pushed

    again = resolve_window(config)
    other = resolve_window(config, "2026-09")

    assert (again.key, again.baseline) == (first.key, None)
    assert other.key != first.key
    assert other.baseline == version

    record_submission(config, other, "run-2")
    shutil.rmtree(version)  # rolled back: there is no such version to be judged by
    assert resolve_window(config, "2026-09").baseline is None


def test_where_the_schema_lies_does_not_change_what_it_works_on(config: Config, tmp_path: Path) -> None:
    first = resolve_window(config)
    copy = tmp_path / "elsewhere" / "schema.pbtxt"
    copy.parent.mkdir()
    copy.write_bytes(Path(config.schema_file).read_bytes())
    moved = config.model_copy(update={"schema_file": str(copy)})
    assert resolve_window(moved).key == first.key
    copy.write_bytes(copy.read_bytes() + b"# reviewed\n")
    assert resolve_window(moved).key != first.key


def test_where_it_runs_does_not_change_what_it_works_on(config: Config, tmp_path: Path) -> None:
    document = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**document, "platform": {"image": "other"}}, sort_keys=False))
    assert resolve_window(load_config(tmp_path / "config.yaml")).key == resolve_window(config).key


def test_the_schema_gets_an_address_by_its_content(config: Config) -> None:
    first = resolve_window(config).schema_file
    assert Path(first).read_bytes() == Path(config.schema_file).read_bytes()
    assert resolve_window(config).schema_file == first

    with Path(config.schema_file).open("a") as stream:
        stream.write("# changed\n")
    assert resolve_window(config).schema_file != first
