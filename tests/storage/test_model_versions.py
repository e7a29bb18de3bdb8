"""Roll-back: what servers see at each moment, what is kept, and what holds pushes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from adclick.components.model_pusher.component import push
from adclick.schema.errors import ConfigError
from adclick.storage.model_versions import ModelVersions


@pytest.fixture
def versions(tmp_path: Path) -> ModelVersions:
    base = tmp_path / "output" / "serving_model" / "ads"
    for number in (1, 2, 3):
        add(base, number)
    return ModelVersions(str(base))


def add(base: Path, number: int) -> None:
    (base / str(number)).mkdir(parents=True)
    (base / str(number) / "saved_model.pb").write_text(str(number))


def test_the_version_before_is_served(versions: ModelVersions) -> None:
    done = versions.roll_back(None, "clicks fell")
    assert (done.served, done.replaced, done.withdrawn, done.reason) == (2, 3, [3], "clicks fell")
    assert (versions.served, versions.withdrawn) == ([1, 2], [3])
    assert versions.hold == done and done.by


def test_any_earlier_version_can_be_served_and_a_withdrawn_one_again(versions: ModelVersions) -> None:
    versions.roll_back(1, "both are bad")
    assert (versions.served, versions.withdrawn) == ([1], [2, 3])
    versions.roll_back(3, "it was not the model")
    assert (versions.served, versions.withdrawn) == ([1, 3], [2])
    assert [found.reason for found in versions.rollbacks] == ["both are bad", "it was not the model"]


def test_a_push_is_held_until_the_release(versions: ModelVersions, tmp_path: Path) -> None:
    model = tmp_path / "model"
    add(model, 0)
    versions.roll_back(None, "clicks fell")
    _, number = push(str(model / "0"), versions.served_folder)
    assert versions.served == [1, 2] and versions.held == [int(number)]
    assert versions.release() == int(number)
    assert versions.served == [1, 2, int(number)] and versions.hold is None and versions.held == []
    _, after = push(str(model / "0"), versions.served_folder)
    assert versions.served[-1] == int(after)


def test_a_number_is_never_used_twice(versions: ModelVersions, tmp_path: Path) -> None:
    add(Path(versions.served_folder), 99_999_999_999)
    versions.roll_back(3, "wrong clock")
    versions.release()
    add(tmp_path, 0)
    assert push(str(tmp_path / "0"), versions.served_folder)[1] == "100000000000"


@pytest.mark.parametrize(("version", "message"), [(3, "is served already"), (7, "there is no version 7 to go back to")])
def test_what_cannot_be_gone_back_to(versions: ModelVersions, version: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        versions.roll_back(version, "why")
    assert versions.served == [1, 2, 3] and versions.hold is None


def test_nothing_to_go_back_to(tmp_path: Path) -> None:
    nothing = ModelVersions(str(tmp_path / "output" / "serving_model" / "ads"))
    with pytest.raises(ConfigError, match="no version is served"):
        nothing.roll_back(None, "why")
    add(Path(nothing.served_folder), 5)
    with pytest.raises(ConfigError, match="only one"):
        nothing.roll_back(None, "why")
    with pytest.raises(ConfigError, match="no roll-back holds"):
        nothing.release()
