"""The seam to files, over a local folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adclick.storage import filesystem


def test_lists_files_directly_in_the_folder_by_pattern(tmp_path: Path) -> None:
    for name in ("b.csv", "a.CSV", "c.csv.gz", "d.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "deep.csv").mkdir()
    (tmp_path / "deep.csv" / "e.csv").write_bytes(b"x")
    found = filesystem.list_files(str(tmp_path), ["*.csv", "*.csv.gz"])
    assert [Path(path).name for path in found] == ["a.CSV", "b.csv", "c.csv.gz"]
    assert filesystem.list_folders(str(tmp_path)) == ["deep.csv"]
    assert filesystem.exists(found[0])
    assert filesystem.size(found[0]) == 1
    assert filesystem.isdir(str(tmp_path)) and not filesystem.isdir(found[0])


def test_read_gives_the_bytes_as_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(b"\x1f\x8bnot really")
    with filesystem.open_read(str(path)) as stream:
        assert stream.read() == b"\x1f\x8bnot really"


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(IsADirectoryError):
            filesystem.open_read(str(tmp_path / name))


def test_a_written_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = str(tmp_path / "deep" / "file")
    with filesystem.open_write_atomic(path) as stream:
        stream.write(b"first")
        assert not filesystem.exists(path)
    with pytest.raises(RuntimeError), filesystem.open_write_atomic(path) as stream:
        stream.write(b"second")
        raise RuntimeError
    assert Path(path).read_bytes() == b"first"
    assert [entry.name for entry in Path(path).parent.iterdir()] == ["file"]


def test_leftovers_of_killed_writers_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "file.0123.partial").write_bytes(b"half")
    (tmp_path / "file").write_bytes(b"whole")
    filesystem.delete_partial(str(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("name", "joined"),
    [("images/a.png", "/drop/images/a.png"), ("/other/a.png", "/other/a.png"), ("gs://b/a.png", "gs://b/a.png")],
)
def test_absolute_names_stand_for_themselves(name: str, joined: str) -> None:
    assert filesystem.join("/drop", name) == joined


def test_fingerprint_changes_with_any_file(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    image = tmp_path / "images" / "a.png"
    seen = set()
    for content in (None, b"one", b"three"):
        if content is not None:
            image.write_bytes(content)
        seen.add(filesystem.fingerprint(str(tmp_path)))
    os.utime(image, (1, 1))
    seen.add(filesystem.fingerprint(str(tmp_path)))
    assert len(seen) == 4
    assert filesystem.fingerprint(str(tmp_path)) in seen
    assert filesystem.fingerprint(str(image)) not in seen
