"""Every kind of broken input ends in a quarantined row, a counted status or a clear refusal."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

from tests.end_to_end.harness import Project


def huge_png() -> bytes:
    """A PNG of 20,000 x 20,000 black pixels in about a megabyte."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    compress = zlib.compressobj(9)
    lines = b"".join(compress.compress(bytes(60_001)) for _ in range(20_000)) + compress.flush()
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def test_a_broken_drop_is_sorted_out(served: Project) -> None:
    month = served.folder / "drops" / "2026-09"
    file = month / "impressions-00.csv"
    header, *rows = file.read_bytes().split(b"\n")
    sound = [row for row in rows if row.count(b",") == 16 and row[-2:] in (b",0", b",1")]
    image = next(field for field in sound[0].split(b",") if field.startswith(b"images/"))

    def broken(number: int, field: int, value: bytes) -> bytes:
        fields = sound[number].split(b",")
        fields[0] = b"broken%d" % number
        fields[field] = value
        return b",".join(fields)

    defects = [
        b"too,few,fields",
        sound[0] + b",one too many",
        broken(1, 16, b"yes"),
        broken(2, 16, b""),
        broken(3, 7, b"\xff\xfe"),
        broken(4, 7, b'"never closed'),
        broken(5, 7, b"x" * 20_000),
        broken(6, 1, b"yesterday"),
        sound[7],
        broken(8, 15, b"images/missing.jpg"),
        broken(9, 15, b"images/empty.jpg"),
        broken(10, 15, b"images/corrupt.jpg"),
        broken(11, 15, b"images/huge.png"),
    ]
    images = month / "images"
    (images / "empty.jpg").write_bytes(b"")
    (images / "corrupt.jpg").write_bytes((month / image.decode()).read_bytes()[:300])
    (images / "huge.png").write_bytes(huge_png())
    (month / "broken.csv").write_bytes(b"\n".join([header, *defects, b""]))
    (month / "empty.csv").write_bytes(b"")
    packed = gzip.compress(b"\n".join([header, *(broken(number, 7, b"site") for number in range(20, 400))]))
    (month / "truncated.csv.gz").write_bytes(packed[: len(packed) * 2 // 3])

    done = served.run()

    assert done.code == 0, done.text
    (run,) = served.status()["runs"]
    drop = run["drops"][-1]
    assert drop["rows_in"] == drop["rows_examples"] + drop["rows_quarantined"] + drop["rows_duplicate"]
    expected = {
        "wrong_field_count": 2,
        "label_not_0_or_1": 1,
        "missing_label": 1,
        "invalid_utf8": 1,
        "unterminated_quote": 1,
        "field_too_long": 1,
        "unparsable_time": 1,
        "truncated_file": 1,
    }
    assert all(drop["quarantined_by_reason"].get(reason, 0) >= count for reason, count in expected.items()), drop
    assert drop["rows_duplicate"] >= 1
    status = drop["creatives_by_status"]
    assert status["missing"] >= 1 and status["corrupt"] >= 2 and status["oversized"] >= 1 and status["ok"] > 10


def test_a_folder_of_files_without_a_header_is_refused(served: Project) -> None:
    file = served.folder / "drops" / "2026-09" / "impressions-00.csv"
    file.write_bytes(file.read_bytes().split(b"\n", 1)[1])
    done = served.run("--quiet")
    assert done.code == 3, done.text
    assert "impressions-00.csv" in done.err and "impression_id" in done.err and "csv.header" in done.err


def test_a_drop_of_empty_files_is_refused(served: Project, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "a.csv").write_bytes(b"")
    done = served.run("--quiet", "--data", str(folder))
    assert done.code == 3, done.text
    assert str(folder) in done.err


def test_a_folder_without_files_is_refused(served: Project, tmp_path: Path) -> None:
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "notes.md").write_text("nothing to read")
    done = served.run("--quiet", "--data", str(folder))
    assert done.code == 2, done.text
    assert "names that end in .csv" in done.err
