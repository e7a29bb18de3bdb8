"""Objects of Google Cloud Storage over the real protocol."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adclick.components.ad_example_gen.creatives import read_creative
from adclick.components.ad_example_gen.settings import IngestionSettings
from adclick.components.model_pusher.component import push
from adclick.models.creatives import MISSING
from adclick.pipeline.drops import find_drops, find_passed_over
from adclick.schema.errors import ConfigError
from adclick.storage import bucket, filesystem, google_storage
from adclick.storage.push_directory import whole_versions
from tests.buckets import check_known_images_are_not_read, check_lists_as_a_drop, check_reads_as_a_folder, reached
from tests.gcs import ACCOUNT, Storage, running_storage


@pytest.fixture(scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    running = running_storage(tmp_path_factory.mktemp("storage"))
    with reached(running, google_storage._made_client, "ads") as storage:
        yield storage


@pytest.fixture
def storage(_running: Storage) -> Storage:
    _running.reset()
    _running.delete_folder("gs://ads")
    return _running


def test_a_bucket_reads_as_a_folder_does(storage: Storage) -> None:
    check_reads_as_a_folder(storage.put, "gs")


def test_a_drop_in_a_bucket_is_listed_as_one_in_a_folder(storage: Storage) -> None:
    listing = check_lists_as_a_drop(storage.put, "gs://ads/drops [1]")
    assert (listing.unread, listing.litter) == (("old/",), ("._a.csv",))
    storage.put("gs://ads/drops [1]/notes/readme.md", b"x")
    drops = find_drops("gs://ads/drops [1]", window=1)
    assert find_passed_over("gs://ads/drops [1]", drops).unread == ["notes/", "2026-09/old/"]
    storage.put("gs://ads/drops [1]/2026_10/a.csv", b"x")
    with pytest.raises(ConfigError, match="'2026_10' should be named '2026-10'"):
        find_drops("gs://ads/drops [1]", window=1)


def test_a_fingerprint_changes_when_any_object_is_written_anew(storage: Storage) -> None:
    storage.put("gs://ads/drop/a.csv", b"x")
    storage.put("gs://ads/drop/images/1.png", b"y")
    before = filesystem.fingerprint("gs://ads/drop")
    assert filesystem.fingerprint("gs://ads/drop") == before
    storage.put("gs://ads/drop/images/1.png", b"y")
    assert filesystem.fingerprint("gs://ads/drop") != before


def test_a_written_object_appears_whole_or_not_at_all(storage: Storage) -> None:
    address = "gs://ads/deep/file"
    with filesystem.open_write_atomic(address) as stream:
        stream.write(b"first")
        assert not filesystem.exists(address)
    with pytest.raises(RuntimeError), filesystem.open_write_atomic(address) as stream:
        stream.write(b"second")
        raise RuntimeError
    assert storage.get(address) == b"first"
    assert storage.names("gs://ads") == ["deep/file"]


def test_a_large_object_is_written_resumably_and_read_by_ranges(storage: Storage, tmp_path: Path) -> None:
    content = os.urandom(35 << 20)
    (tmp_path / "large").write_bytes(content)
    interrupted = storage.fail(r"^PUT /upload/", 503, times=2)
    bucket.upload(str(tmp_path / "large"), "gs://ads/large")
    parts = [request for request in storage.requests if request.startswith("PUT /upload/")]
    assert interrupted.hits == 2 and len(parts) == 3 + 2, "each part is sent again by itself"
    with bucket.open_read("gs://ads/large") as stream:
        assert stream.read(1000) == content[:1000]
        stream.seek(20 << 20)
        assert stream.read() == content[20 << 20 :]


@pytest.mark.parametrize("status", [429, 503])
def test_what_passes_is_tried_again(storage: Storage, status: int) -> None:
    storage.put("gs://ads/a", b"x")
    faults = [
        storage.fail(pattern, status) for pattern in ("^GET /download/", "^POST /upload/", "^DELETE", r"GET .*/o\?")
    ]
    assert bucket.read("gs://ads/a") == b"x"
    bucket.write("gs://ads/a", b"y")
    assert [found.size for found in bucket.objects_below("gs://ads")] == [1]
    bucket.delete("gs://ads/a")
    assert storage.names("gs://ads") == []
    assert [fault.hits for fault in faults] == [1, 1, 1, 1]


def test_what_does_not_pass_is_said(storage: Storage) -> None:
    storage.fail("^GET", 503, times=None)
    with pytest.raises(bucket.BucketUnavailable, match=r"gs://ads/a: .*503"):
        bucket.read("gs://ads/a", timeout_seconds=1.5)


def test_a_denied_bucket_is_named_with_the_permission(storage: Storage) -> None:
    storage.deny("ads", "storage.objects.list")
    with pytest.raises(bucket.BucketDenied, match=f"gs://ads: permission storage.objects.list is denied: {ACCOUNT}"):
        filesystem.list_folders("gs://ads/drops")
    storage.reset()
    storage.deny("ads", "storage.objects.create")
    with pytest.raises(bucket.BucketDenied, match=r"permission storage\.objects\.create is denied"):
        bucket.check_writable("gs://ads/push")
    storage.reset()
    bucket.check_writable("gs://ads/push")
    assert storage.names("gs://ads") == []
    with pytest.raises(ConfigError, match="no bucket no-such-bucket"):
        bucket.check_writable("gs://no-such-bucket/push")


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed(storage: Storage) -> None:
    storage.put("gs://ads/a", b"old" * (4 << 20))
    with bucket.open_read("gs://ads/a") as stream:
        stream.read(10)
        storage.put("gs://ads/a", b"new" * (4 << 20))
        stream.seek(9 << 20)
        with pytest.raises(FileNotFoundError):
            stream.read()


def test_an_image_that_is_not_there_is_a_status(storage: Storage) -> None:
    assert read_creative("gs://ads/none.png", IngestionSettings()).status == MISSING


def test_a_known_image_is_not_read(tmp_path: Path, storage: Storage) -> None:
    check_known_images_are_not_read(storage.put, "gs://ads/known.png", tmp_path / "creatives.sqlite")


def test_requests_wait_side_by_side(storage: Storage) -> None:
    names = [f"gs://ads/{number}" for number in range(64)]
    for name in names:
        storage.put(name, b"x")
    storage.latency_seconds = 0.25
    started = time.monotonic()
    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(bucket.read, names)) == [b"x"] * 64
    # One after the other, whatever else the machine does, they take no less.
    assert time.monotonic() - started < 64 * 0.25


def test_a_new_object_is_written_by_one_alone(storage: Storage) -> None:
    with ThreadPoolExecutor(8) as pool:
        wrote = list(pool.map(lambda each: bucket.write_new("gs://ads/claim", str(each).encode()), range(8)))
    assert sum(wrote) == 1
    assert storage.get("gs://ads/claim") == str(wrote.index(True)).encode()


def test_pushes_to_one_bucket_get_numbers_of_their_own(storage: Storage, tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "variables").mkdir(parents=True)
    (model / "variables" / "part").write_bytes(bytes(1000))
    (model / "saved_model.pb").write_bytes(b"graph")
    base = "gs://ads/serving_model/adclick"
    storage.put(f"{base}/7/variables/part", b"what a killed push left")
    alive = {"host": "another-machine", "pid": 1, "time": time.time()}
    dead = {**alive, "time": time.time() - 7 * 86_400}
    storage.put(f"{base}/.incoming-99999999999", json.dumps(alive).encode())
    storage.put(f"{base}/.incoming-8", json.dumps(dead).encode())
    with ThreadPoolExecutor(4) as pool:
        versions = sorted(int(version) for _, version in pool.map(lambda _: push(str(model), base), range(4)))
    assert versions == list(range(100_000_000_000, 100_000_000_004)) == whole_versions(base)
    names = storage.names(base)
    assert ".incoming-99999999999" in names and ".incoming-8" not in names
    assert not [name for name in names if name.startswith("7/")]
