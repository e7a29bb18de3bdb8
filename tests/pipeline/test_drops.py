"""Which drops train one model."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.drops import find_drops, gaps
from schema.errors import ConfigError


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
