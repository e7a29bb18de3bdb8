"""Objects of Google Cloud Storage over the real protocol."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components import filesystem
from components.ad_example_gen.creatives import read_creative
from components.ad_example_gen.settings import IngestionSettings
from models import bucket
from models.creatives import MISSING
from schema.errors import ConfigError
from tests.gcs import ACCOUNT, Storage, running_storage


@pytest.fixture(scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with running_storage(tmp_path_factory.mktemp("storage")) as storage, pytest.MonkeyPatch.context() as patch:
        for name, value in storage.environment.items():
            patch.setenv(name, value)
        bucket._made_client.cache_clear()
        storage.make_bucket("ads")
        yield storage
    bucket._made_client.cache_clear()


@pytest.fixture
def storage(_running: Storage) -> Storage:
    _running.reset()
    _running.delete_folder("gs://ads")
    return _running


def test_a_bucket_reads_as_a_folder_does(storage: Storage) -> None:
    contents = {
        "2026-09/a.csv": b"x",
        "2026-09/images/1.png": b"12345",
        "2026-10/b.csv.gz": b"\x1f\x8bzip",
        "c.csv": b"",
    }
    for name, content in contents.items():
        storage.put(f"gs://ads/drops/{name}", content)
    root = "gs://ads/drops"
    assert filesystem.list_folders(root) == ["2026-09", "2026-10"]
    assert filesystem.list_files(root, ["*.csv", "*.csv.gz"]) == [f"{root}/c.csv"]
    assert filesystem.list_files(f"{root}/2026-09", ["*.csv"]) == [f"{root}/2026-09/a.csv"]
    assert filesystem.isdir(root) and filesystem.isdir(f"{root}/2026-09/") and not filesystem.isdir(f"{root}/2026")
    assert filesystem.exists(f"{root}/c.csv") and not filesystem.exists(f"{root}/d.csv")
    assert not filesystem.exists("gs://no-such-bucket/drops")
    assert filesystem.size(f"{root}/2026-09/images/1.png") == 5
    with filesystem.open_read(f"{root}/2026-10/b.csv.gz") as stream:
        assert stream.read() == b"\x1f\x8bzip"
    assert filesystem.read(f"{root}/2026-09/images/1.png", 3) == b"123"
    assert filesystem.read(f"{root}/c.csv", 3) == b""
    assert filesystem.join(f"{root}/2026-09", "../2026-10/./b.csv.gz") == f"{root}/2026-10/b.csv.gz"


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


def test_requests_wait_side_by_side(storage: Storage) -> None:
    names = [f"gs://ads/{number}" for number in range(64)]
    for name in names:
        storage.put(name, b"x")
    storage.latency_seconds = 0.25
    started = time.monotonic()
    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(bucket.read, names)) == [b"x"] * 64
    assert time.monotonic() - started < 64 * 0.25 / 4
