"""ModelPusher: a version appears whole or not at all, and a refused model never."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts

from adclick.components.model_pusher.component import ModelPusherExecutor, push
from adclick.models.description import read_description
from adclick.storage.push_directory import whole_versions
from tests.models.tiny_model import TinyModel

SECONDS = 120.0


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model" / "Format-Serving"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    for number in range(50):
        (folder / "variables" / f"part-{number}").write_bytes(bytes(100_000))
    return folder


def test_versions_only_grow(model: Path, tmp_path: Path) -> None:
    base = str(tmp_path / "base")
    versions = [int(push(str(model), base)[1]) for _ in range(3)]
    assert versions == sorted(set(versions)) == whole_versions(base)
    (tmp_path / "base" / "99999999999").mkdir()
    (tmp_path / "base" / "99999999999" / "saved_model.pb").touch()
    assert int(push(str(model), base)[1]) == 100_000_000_000


def test_a_version_is_whole_when_it_appears(model: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    seen: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.extend(len(list(entry.rglob("*"))) for entry in base.iterdir() if entry.name.isdecimal())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        push(str(model), str(base))
        time.sleep(0.1)
    finally:
        stop.set()
    watcher.join(SECONDS)
    assert not watcher.is_alive()
    assert set(seen) == {52}


def test_what_a_killed_push_left_is_cleared(model: Path, tmp_path: Path) -> None:
    leftover = tmp_path / "base" / ".incoming-123"
    leftover.mkdir(parents=True)
    (leftover / "half").touch()
    folder, version = push(str(model), str(tmp_path / "base"))
    assert [entry.name for entry in (tmp_path / "base").iterdir()] == [version]
    assert (Path(folder) / "saved_model.pb").read_bytes() == b"graph"


def test_pushes_at_the_same_time_get_numbers_of_their_own(model: Path, tmp_path: Path) -> None:
    base = str(tmp_path / "base")
    with ThreadPoolExecutor(6) as pool:
        pushed = list(pool.map(lambda _: push(str(model), base), range(6)))
    assert sorted(int(version) for _, version in pushed) == whole_versions(base)
    assert all(len(list(Path(folder).rglob("*"))) == 52 for folder, _ in pushed)
    assert len(list(Path(base).iterdir())) == 6


@pytest.mark.parametrize(("blessed", "served_right"), [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_only_a_model_that_both_gates_bless_is_pushed(
    model: Path, tmp_path: Path, blessed: int, served_right: int
) -> None:
    def artifact(kind: type[Any], name: str) -> Any:
        made = kind()
        made.uri = str(tmp_path / name)
        return made

    candidate = artifact(standard_artifacts.Model, "model")
    blessing = artifact(standard_artifacts.ModelBlessing, "blessing")
    blessing.set_int_custom_property("blessed", blessed)
    infra_blessing = artifact(standard_artifacts.InfraBlessing, "infra_blessing")
    infra_blessing.set_int_custom_property("blessed", served_right)
    (tmp_path / "infra_blessing").mkdir()
    (tmp_path / "infra_blessing" / "tf_serving_warmup_requests").write_bytes(b"requests")
    (tmp_path / "blessing").mkdir()
    (tmp_path / "blessing" / "held_out.json.gz").write_bytes(b"audience")
    pushed = artifact(standard_artifacts.PushedModel, "pushed")
    destination = pusher_pb2.PushDestination(
        filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(tmp_path / "base"))
    )
    ModelPusherExecutor().Do(
        {"model": [candidate], "model_blessing": [blessing], "infra_blessing": [infra_blessing]},
        {"pushed_model": [pushed]},
        {"push_destination": json_format.MessageToJson(destination, preserving_proto_field_name=True)},
    )
    versions = whole_versions(str(tmp_path / "base"))
    assert len(versions) == (blessed and served_right) == pushed.get_int_custom_property("pushed")
    if versions:
        assert pushed.get_string_custom_property("pushed_version") == str(versions[0])
        version = tmp_path / "base" / str(versions[0])
        assert (version / "assets.extra" / "tf_serving_warmup_requests").read_bytes() == b"requests"
        assert (version / "assets.extra" / "held_out.json.gz").read_bytes() == b"audience"


def test_a_version_carries_its_thresholds(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder, _ = push(str(tiny_model.folder), str(tmp_path / "base"), None, {"0.001": 0.93})
    found = read_description(folder)
    assert found.fraud_thresholds == {"0.001": 0.93}
    assert found == read_description(str(tiny_model.folder)).model_copy(update={"fraud_thresholds": {"0.001": 0.93}})
