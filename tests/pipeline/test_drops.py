"""Which drops train one model."""

from __future__ import annotations

from pathlib import Path

import pytest

from adclick.components.ad_example_gen.drop_files import list_drop
from adclick.pipeline.drops import find_drops, find_passed_over, gaps
from adclick.schema.errors import ConfigError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for month in ("2025-11", "2025-12", "2026-01", "2026-13", "notes"):
        (tmp_path / month).mkdir()
        (tmp_path / month / "a.csv").write_text("x\n1\n")
    return tmp_path


def test_the_window_is_the_newest_months_oldest_first(root: Path) -> None:
    drops = find_drops(str(root), window=2)
    assert [(drop.name, drop.span) for drop in drops] == [("2025-12", 202512), ("2026-01", 202601)]
    assert [drop.name for drop in find_drops(str(root), window=12)] == ["2025-11", "2025-12", "2026-01"]


def test_a_gap_lets_no_older_month_in(root: Path) -> None:
    for month in ("2026-02", "2026-05"):
        (root / month).mkdir()
        (root / month / "a.csv").write_text("x\n1\n")
    drops = find_drops(str(root), window=5)
    assert [drop.name for drop in drops] == ["2026-01", "2026-02", "2026-05"]
    assert gaps(drops) == ["2026-03", "2026-04"]
    assert gaps(find_drops(str(root), window=3, month="2026-01")) == []
    assert [drop.name for drop in find_drops(str(root), window=3)] == ["2026-05"]


def test_a_month_can_be_chosen(root: Path) -> None:
    assert [drop.name for drop in find_drops(str(root), window=2, month="2025-12")] == ["2025-11", "2025-12"]
    with pytest.raises(ConfigError, match="2024-01"):
        find_drops(str(root), window=2, month="2024-01")


def test_a_fingerprint_changes_with_any_file(root: Path) -> None:
    before = find_drops(str(root), window=3)
    (root / "2026-01" / "images").mkdir()
    (root / "2026-01" / "images" / "a.jpg").write_bytes(b"1")
    after = find_drops(str(root), window=3)
    assert [old.fingerprint == new.fingerprint for old, new in zip(before, after, strict=True)] == [True, True, False]


def test_a_file_or_folder_without_months_is_one_drop(tmp_path: Path) -> None:
    file = tmp_path / "october export.v2.tsv.gz"
    file.write_bytes(b"")
    assert [(drop.name, drop.span, drop.uri) for drop in find_drops(str(file), window=3)] == [
        ("october_export", 0, str(file))
    ]
    (tmp_path / "a.csv").write_text("x")
    (drop,) = find_drops(str(tmp_path), window=3)
    assert drop.uri == str(tmp_path)


def test_what_holds_no_drop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        find_drops(str(tmp_path / "nowhere"), window=1)
    with pytest.raises(ConfigError, match="YYYY-MM"):
        find_drops(str(tmp_path), window=1)


@pytest.mark.parametrize(
    ("name", "intended"),
    [
        ("2026_10", "2026-10"),
        ("2026-11 ", "2026-11"),
        ("2026-9", "2026-09"),
        ("202611", "2026-11"),
        ("10-2026", "2026-10"),
        ("Oct 2026", "2026-10"),
        ("month=2026-10", "2026-10"),
        ("2026\u201110", "2026-10"),
        ("2026-02-15", "2026-02/2026-02-15"),
    ],
)
def test_a_folder_named_nearly_as_a_month_is_refused(root: Path, name: str, intended: str) -> None:
    (root / name).mkdir()
    with pytest.raises(ConfigError, match=f"should be named '{intended}'"):
        find_drops(str(root), window=2)


def test_what_is_not_read_is_named(root: Path) -> None:
    newest, older = root / "2026-01", root / "2025-11"
    for name in (".DS_Store", "_SUCCESS", "._a.csv", "b.csv.7z", "b.csv.rar", "b.orc", "image.JPG"):
        (newest / name).write_bytes(b"")
        (older / name).write_bytes(b"")
    for name in ("15", "day16", "backup", "images", "__MACOSX"):
        (newest / name).mkdir()
        (newest / name / "b.csv").write_text("x\n1\n")
    (newest / "images" / "b.csv").rename(newest / "images" / "b.jpg")
    (newest / "15" / ".hidden.csv").write_text("")
    (root / "2026-02.csv").write_text("x\n")
    drops = find_drops(str(root), window=1)
    found = find_passed_over(str(root), drops)
    assert found.unread == [
        "2026-02.csv",
        "2026-13/",
        "notes/",
        *(f"2026-01/{name}" for name in ("b.csv.7z", "b.csv.rar", "b.orc", "backup/")),
    ]
    assert found.litter == 5
    assert len(found.describe()) == 2
    listing = list_drop(drops[0].uri)
    assert [(file.path.removeprefix(str(newest)), file.folder) for file in listing.files] == [
        ("/a.csv", ""),
        ("/15/b.csv", "15"),
        ("/day16/b.csv", "day16"),
    ]


def test_nothing_is_said_where_all_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n")
    found = find_passed_over(str(tmp_path), find_drops(str(tmp_path), window=1))
    assert found.describe() == []
    assert find_passed_over(str(tmp_path / "a.csv"), find_drops(str(tmp_path / "a.csv"), window=1)).describe() == []


def test_a_root_whose_parent_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file/drops"):
        find_drops(str(tmp_path / "file" / "drops"), window=1)


def test_paths_are_no_patterns(tmp_path: Path) -> None:
    root = tmp_path / "a b [v1]*?#%20'\u00fc"
    (root / "2026-01").mkdir(parents=True)
    (root / "2026-01" / "x [1].csv").write_text("x\n")
    (drop,) = find_drops(str(root), window=1)
    assert [file.path for file in list_drop(drop.uri).files] == [str(root / "2026-01" / "x [1].csv")]
