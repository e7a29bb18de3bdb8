"""Objects of S3 over the real protocol."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tfx.dsl.io import fileio
from tfx.utils import io_utils

from adclick.components.ad_example_gen.creatives import read_creative
from adclick.components.ad_example_gen.settings import IngestionSettings
from adclick.components.model_pusher.component import push
from adclick.components.s3_files import open_s3_to_tfx
from adclick.models.creatives import MISSING
from adclick.pipeline.drops import find_drops, find_passed_over
from adclick.schema.errors import ConfigError
from adclick.storage import bucket, filesystem, s3
from adclick.storage.literal_path import literal_path
from adclick.storage.local_copy import Staging, local_copy, temporary_copy
from adclick.storage.model_versions import ModelVersions
from tests.buckets import check_known_images_are_not_read, check_lists_as_a_drop, check_reads_as_a_folder
from tests.gcs import free_port
from tests.s3 import S3, running_s3


@pytest.fixture(scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with running_s3(tmp_path_factory.mktemp("s3")) as store:
        store.make_bucket("ads")
        yield store


@pytest.fixture
def store(_running: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    for name, value in _running.environment.items():
        monkeypatch.setenv(name, value)
    s3._made_client.cache_clear()
    _running.delete_folder("s3://ads")
    yield _running
    s3._made_client.cache_clear()


def test_a_bucket_reads_as_a_folder_does(store: S3) -> None:
    store.put("s3://ads/drops/2026-10/é [1] *?%20.csv", b"odd")
    check_reads_as_a_folder(store.put, "s3")
    assert filesystem.read("s3://ads/drops/2026-10/é [1] *?%20.csv", 9) == b"odd"


def test_a_drop_in_a_bucket_is_listed_as_one_in_a_folder(store: S3) -> None:
    check_lists_as_a_drop(store.put, "s3://ads/drops [1]")
    store.put("s3://ads/drops [1]/notes/readme.md", b"x")
    (drop,) = drops = find_drops("s3://ads/drops [1]", window=1)
    assert find_passed_over("s3://ads/drops [1]", drops).unread == ["notes/", "2026-09/old/"]
    store.put("s3://ads/drops [1]/2026-09/a.csv", b"y")
    (again,) = find_drops("s3://ads/drops [1]", window=1)
    assert again.fingerprint != drop.fingerprint


def test_a_large_object_is_read_in_pieces_and_written_in_parts(store: S3, tmp_path: Path) -> None:
    content = os.urandom(21 << 20)
    (tmp_path / "file").write_bytes(content)
    bucket.upload(str(tmp_path / "file"), "s3://ads/large")
    assert store.get("s3://ads/large") == content
    with bucket.open_read("s3://ads/large") as stream:
        assert stream.read(3) == content[:3]
        stream.seek(20 << 20)
        assert stream.read() == content[20 << 20 :]
    bucket.download("s3://ads/large", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == content


def test_what_was_replaced_while_it_was_read_is_not_read_on(store: S3) -> None:
    store.put("s3://ads/a", b"1" * (9 << 20))
    with bucket.open_read("s3://ads/a") as stream:
        assert stream.read(1) == b"1"
        store.put("s3://ads/a", b"2" * (9 << 20))
        with pytest.raises(FileNotFoundError):
            stream.read()


def test_of_many_who_write_a_new_object_one_does(store: S3) -> None:
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda number: bucket.write_new("s3://ads/claim", b"%d" % number), range(8)))
    assert sum(written) == 1
    assert store.get("s3://ads/claim") == b"%d" % written.index(True)


def test_a_folder_is_written_whole_and_deleted_with_all_that_is_below(store: S3) -> None:
    with filesystem.open_write_atomic("s3://ads/out/a") as stream:
        stream.write(b"whole")
        assert store.names("s3://ads/out") == []
    with pytest.raises(RuntimeError), filesystem.open_write_atomic("s3://ads/out/b") as stream:
        stream.write(b"half")
        raise RuntimeError
    store.put("s3://ads/out/deep/er", b"x")
    filesystem.rename("s3://ads/out", "s3://ads/moved")
    filesystem.rename("s3://ads/moved/a", "s3://ads/moved/b")
    assert store.names("s3://ads") == ["moved/b", "moved/deep/er"]
    filesystem.rename("s3://ads/moved/b", "s3://ads/out/a")
    filesystem.rename("s3://ads/moved", "s3://ads/out")
    store.put("s3://ads/out/marker/", b"")
    assert [found.address for found in bucket.objects_below("s3://ads/out")] == [
        "s3://ads/out/a",
        "s3://ads/out/deep/er",
    ]
    bucket.delete_markers("s3://ads/out")
    assert store.names("s3://ads/out") == ["a", "deep/er"]
    bucket.check_writable("s3://ads/out")
    filesystem.delete("s3://ads/out")
    assert store.names("s3://ads") == []
    with pytest.raises(ConfigError, match="there is no bucket no-such-bucket"):
        bucket.check_writable("s3://no-such-bucket/out")


def test_pushes_get_numbers_of_their_own_and_a_roll_back_moves_versions(store: S3, tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "variables").mkdir(parents=True)
    (model / "variables" / "part").write_bytes(bytes(1000))
    (model / "saved_model.pb").write_bytes(b"graph")
    base = "s3://ads/output/serving_model/adclick"
    store.put(f"{base}/7/variables/part", b"what a killed push left")
    with ThreadPoolExecutor(4) as pool:
        pushed = sorted(int(version) for _, version in pool.map(lambda _: push(str(model), base), range(4)))
    versions = ModelVersions(base)
    assert versions.served == pushed and len(set(pushed)) == 4
    assert store.names(base) == [f"{each}/{name}" for each in pushed for name in ("saved_model.pb", "variables/part")]
    done = versions.roll_back(pushed[1], "clicks fell")
    assert (versions.served, versions.withdrawn, versions.hold) == (pushed[:2], pushed[2:], done)
    assert store.get(f"s3://ads/output/withdrawn_model/adclick/{pushed[3]}/variables/part") == bytes(1000)
    _, number = push(str(model), base)
    assert versions.held == [int(number)]
    assert versions.release() == int(number) == versions.served[-1]


def test_a_copy_for_tensorflow_is_made_once_and_anew_when_the_folder_changes(store: S3) -> None:
    store.put("s3://ads/models/7/saved_model.pb", b"graph")
    store.put("s3://ads/models/7/variables/part", b"1")
    copy = Path(local_copy("s3://ads/models/7"))
    assert copy.name == "7" and (copy / "variables" / "part").read_bytes() == b"1"
    assert local_copy("s3://ads/models/7/") == str(copy) == literal_path("s3://ads/models/7")
    store.put("s3://ads/models/7/variables/part", b"2")
    assert (Path(local_copy("s3://ads/models/7")) / "variables" / "part").read_bytes() == b"2"
    with temporary_copy("s3://ads/models/7") as folder:
        assert (Path(folder) / "saved_model.pb").read_bytes() == b"graph"
    assert not Path(folder).exists()
    assert local_copy("/a/folder") == "/a/folder" and local_copy("gs://bucket/folder") == "gs://bucket/folder"


def test_what_a_step_writes_is_in_s3_once_it_is_uploaded(store: S3) -> None:
    store.put("s3://ads/root/in/Split-eval/part", b"1")
    store.put("s3://ads/root/out/of an earlier attempt", b"x")
    with Staging() as staging:
        assert (Path(staging.input("s3://ads/root/in")) / "Split-eval" / "part").read_bytes() == b"1"
        output = Path(staging.output("s3://ads/root/out"))
        (output / "deep").mkdir()
        (output / "deep" / "er").write_bytes(b"2")
        assert store.names("s3://ads/root/out") == ["of an earlier attempt"]
        assert staging.addressed(f"see {output}/deep") == "see s3://ads/root/out/deep"
        staging.upload()
    assert store.names("s3://ads/root/out") == ["deep/er"] and not output.exists()


def test_tfx_opens_files_there(store: S3) -> None:
    open_s3_to_tfx()
    io_utils.write_string_file("s3://ads/tfx/deep/a.txt", "text é")
    assert io_utils.read_string_file("s3://ads/tfx/deep/a.txt") == "text é"
    io_utils.copy_file("s3://ads/tfx/deep/a.txt", "s3://ads/tfx/b.txt")
    assert fileio.exists("s3://ads/tfx") and fileio.isdir("s3://ads/tfx/deep") and not fileio.exists("s3://ads/other")
    assert sorted(fileio.listdir("s3://ads/tfx")) == ["b.txt", "deep"]
    assert fileio.glob("s3://ads/tfx/*.txt") == ["s3://ads/tfx/b.txt"]
    assert list(fileio.walk("s3://ads/tfx")) == [
        ("s3://ads/tfx", ["deep"], ["b.txt"]),
        ("s3://ads/tfx/deep", [], ["a.txt"]),
    ]
    fileio.rename("s3://ads/tfx/b.txt", "s3://ads/tfx/c.txt")
    fileio.rmtree("s3://ads/tfx/deep")
    assert store.names("s3://ads/tfx") == ["c.txt"]
    with pytest.raises(OSError):
        fileio.open("s3://ads/tfx/none.txt").read()
    with pytest.raises(ValueError, match="not opened as 'a'"):
        fileio.open("s3://ads/tfx/c.txt", "a")


def test_images_lie_where_the_rows_say(store: S3) -> None:
    assert read_creative("s3://ads/no-such.png", IngestionSettings(), {}).status == MISSING


def test_a_known_image_is_not_read(tmp_path: Path, store: S3) -> None:
    check_known_images_are_not_read(store.put, "s3://ads/known.png", tmp_path / "creatives.sqlite")


@pytest.mark.parametrize(
    ("status", "code", "raised", "message"),
    [
        (403, "AccessDenied", bucket.BucketDenied, "s3://ads: permission s3:GetObject is denied: because"),
        (403, "InvalidAccessKeyId", ConfigError, "the store refuses the credentials: InvalidAccessKeyId: because"),
        (404, "NoSuchKey", FileNotFoundError, "no such object"),
        (400, "Strange", bucket.BucketUnavailable, "s3://ads/a: S3 failed: Strange: because"),
    ],
)
def test_what_a_store_answers_is_told(
    status: int, code: str, raised: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"<Error><Code>{code}</Code><Message>because</Message></Error>"
    answer = f"HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    _answering(monkeypatch, [answer])
    with pytest.raises(raised, match=message):
        bucket.read("s3://ads/a")


def test_an_answer_that_breaks_off_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    head = 'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 5\r\n\r\n'
    _answering(monkeypatch, [f"{head}who", f"{head}whole"])
    assert bucket.read("s3://ads/a") == b"whole"


def _answering(monkeypatch: pytest.MonkeyPatch, answers: list[str]) -> None:
    """Lets S3's address be a server's that gives these answers, one a connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer.encode())

    threading.Thread(target=serve, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    s3._made_client.cache_clear()


def test_a_store_that_does_not_answer_is_given_up_in_the_time_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    s3._made_client.cache_clear()
    with pytest.raises(bucket.BucketUnavailable, match="s3://ads/a: S3 failed") as raised:
        bucket.read("s3://ads/a", timeout_seconds=1)
    assert "AWS_ENDPOINT_URL" in raised.value.remedy


def test_without_credentials_it_is_said_what_to_set(store: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/no-such-file")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3._made_client.cache_clear()
    with pytest.raises(ConfigError, match="there are no credentials for S3") as raised:
        bucket.read("s3://ads/a")
    assert "AWS_ACCESS_KEY_ID" in raised.value.remedy


@pytest.mark.parametrize("address", ["nonsense", "ftp://x y"])
def test_an_address_that_is_none_is_refused(address: str, store: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    s3._made_client.cache_clear()
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL"):
        bucket.read("s3://ads/a")
