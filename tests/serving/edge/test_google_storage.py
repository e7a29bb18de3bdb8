"""Bundles from Google Cloud Storage, without Google's packages: over the real protocol and TLS."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adclick.pipeline.edge.publish import run_publish
from adclick.serving.edge.channel import Release
from adclick.serving.edge.errors import BundleRefused, EdgeError
from adclick.serving.edge.fetch import Fetcher, OutOfReach
from adclick.serving.edge.google_storage import object_address
from adclick.storage import google_storage
from tests.buckets import reached
from tests.gcs import TOKEN, Storage, running_storage
from tests.serving.edge.conftest import ROOT

CONTENT = os.urandom(300_000)
DEADLINE = 120.0


@pytest.fixture(scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    running = running_storage(tmp_path_factory.mktemp("storage"))
    with reached(running, google_storage._made_client, "screens", "other") as storage:
        yield storage


@pytest.fixture
def storage(_running: Storage) -> Storage:
    _running.reset()
    return _running


@pytest.fixture
def token(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return tmp_path / "token"


@pytest.fixture
def fetcher(storage: Storage, token: Path) -> Fetcher:
    return Fetcher(storage.folder / "authority.pem", google_token_file=token)


def release(content: bytes = CONTENT) -> Release:
    return Release(1, "x.bundle", hashlib.sha256(content).hexdigest(), len(content), 100)


def asked(storage: Storage) -> list[str]:
    return [request for request in storage.requests if request.startswith("GET /storage")]


def test_it_goes_on_where_it_was_cut_off(storage: Storage, fetcher: Fetcher, tmp_path: Path) -> None:
    address, part = "gs://screens/a folder/x+y.bundle", tmp_path / "part"
    storage.put(address, CONTENT)
    storage.cut_after = 70_000
    for number in range(4):
        with pytest.raises(OutOfReach, match="cut off"):
            fetcher.fetch(address, release(), part)
        assert part.stat().st_size == (number + 1) * 70_000
    fetcher.fetch(address, release(), part)
    assert part.read_bytes() == CONTENT and len(asked(storage)) == 5
    assert not any("generation=" in request for request in asked(storage)[:1])
    assert all("generation=" in request for request in asked(storage)[1:])


def test_an_object_that_was_replaced_meanwhile_begins_anew(storage: Storage, fetcher: Fetcher, tmp_path: Path) -> None:
    address, part, other = "gs://screens/x.bundle", tmp_path / "part", os.urandom(300_000)
    storage.put(address, CONTENT)
    storage.cut_after = 70_000
    with pytest.raises(OutOfReach):
        fetcher.fetch(address, release(), part)
    storage.cut_after = None
    storage.put(address, other)
    with pytest.raises(BundleRefused, match="is not the file that the channel names"):
        fetcher.fetch(address, release(), part)
    fetcher.fetch(address, release(other), part)
    assert part.read_bytes() == other


def test_who_may_not_read_is_told_and_a_token_that_is_renewed_counts(
    storage: Storage, fetcher: Fetcher, token: Path
) -> None:
    storage.put("gs://screens/stable.json", b"x")
    token.write_text("an-old-token")
    with pytest.raises(OutOfReach, match=r"status 401\nGive --google-token-file"):
        fetcher.read("gs://screens/stable.json", 100)
    token.write_text(TOKEN)
    assert fetcher.read("gs://screens/stable.json", 100) == b"x"
    for nothing in ("", "two words", "a\r\nhost: b", "x" * 20_000):
        token.write_text(nothing)
        with pytest.raises(EdgeError, match="holds no access token"):
            fetcher.read("gs://screens/stable.json", 100)
    token.unlink()
    with pytest.raises(EdgeError, match="cannot be read"):
        fetcher.read("gs://screens/stable.json", 100)


def test_public_objects_need_no_token(storage: Storage) -> None:
    storage.put("gs://screens/x", b"x")
    storage.put("gs://other/x", b"x")
    storage.public_buckets.add("screens")
    fetcher = Fetcher(storage.folder / "authority.pem")
    assert fetcher.read("gs://screens/x", 100) == b"x"
    for away, status in (("gs://other/x", 401), ("gs://screens/none", 404)):
        with pytest.raises(OutOfReach, match=f"status {status}"):
            fetcher.read(away, 100)


def test_an_object_s_address() -> None:
    host = "https://storage.googleapis.com/storage/v1/b"
    assert object_address("gs://b/f/ü?#.bundle", "7") == f"{host}/b/o/f%2F%C3%BC%3F%23.bundle?alt=media&generation=7"
    for none in ("gs://", "gs://b", "gs://b/", "gs:///x"):
        with pytest.raises(EdgeError, match="no object of a bucket"):
            object_address(none)


def test_a_device_takes_what_is_published_in_a_bucket(
    storage: Storage, token: Path, make_bundle: Callable[..., bytes], keys: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "x.bundle").write_bytes(make_bundle())
    run_publish(tmp_path / "x.bundle", to=str(tmp_path / "origin"), channel="beta", share=100, key=keys[0])
    for file in (tmp_path / "origin").rglob("*.*"):
        storage.put(f"gs://screens/edge/{file.relative_to(tmp_path / 'origin')}", file.read_bytes())

    def update() -> list[dict[str, Any]]:
        command = [sys.executable, "-m", "adclick.serving.edge.command", "update", "--state", str(tmp_path / "state")]
        command += ["--public-key", str(keys[1]), "--from", "gs://screens/edge", "--channel", "beta"]
        command += ["--google-token-file", str(token), "--ca-file", str(storage.folder / "authority.pem")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=DEADLINE)
        assert done.returncode in (0, 5), done.stderr.decode()
        return [json.loads(line) for line in done.stdout.splitlines()]

    # The channel's file comes whole, the bundle in two parts.
    storage.cut_after = (tmp_path / "x.bundle").stat().st_size // 2 + 1
    assert update() == []
    assert [entry["event"] for entry in update()] == ["bundle_installed", "looked"]
