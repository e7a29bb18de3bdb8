"""CopyDetector: copies are found, rows that are equal by chance are not taken for copies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tfx.types import standard_artifacts

from adclick.components.artifacts import Copies
from adclick.components.copy_detector.component import CopyDetectorExecutor, read_copies
from adclick.components.copy_detector.copies import Part, common, copied_rows
from adclick.components.copy_detector.report import CopyReport
from adclick.components.copy_detector.row_hashes import ROW_HASHES, read_row_hashes, write_row_hashes

Values = npt.NDArray[np.int64]
_RATES = np.random.default_rng(0).beta(1, 9, 1_000_003)


def part(values: Values, seed: int) -> Part:
    """Rows of these values; each value has a click rate of its own."""
    clicked = np.random.default_rng(seed).random(len(values)) < _RATES[values % len(_RATES)]
    return Part((values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) & ~np.uint64(7), clicked)


def drawn(kind: str, rows: int, seed: int, month: int) -> Values:
    random = np.random.default_rng(seed)
    if kind == "three columns":
        return np.sum([random.integers(0, size, rows) * scale for size, scale in ((3, 1), (20, 3), (15, 60))], axis=0)
    if kind == "zipf":
        return random.zipf(1.3, rows) % 10**7
    if kind == "drifting":
        return np.where(
            random.random(rows) < 0.5,
            random.zipf(1.2, rows) % 10**6,
            10**7 * (month + 1) + random.integers(0, 500, rows),
        )
    if kind == "all different":
        return random.integers(0, 2**40, rows)
    assert kind == "without repetitions"
    return random.choice(20_000, min(rows, 15_000), replace=False)


KINDS = ["three columns", "zipf", "drifting", "all different", "without repetitions"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(1_500, 1_500), (300, 20_000), (20_000, 4_000)])
def test_rows_that_are_equal_by_chance_are_no_copies(kind: str, sizes: tuple[int, int]) -> None:
    for seed in range(20):
        first = part(drawn(kind, sizes[0], 2 * seed, 0), 100 + seed)
        second = part(drawn(kind, sizes[1], 2 * seed + 1, 1), 200 + seed)
        assert copied_rows(first, second) <= 0.01 * len(first.contents), (kind, sizes, seed)


@pytest.mark.parametrize("kind", ["zipf", "all different", "without repetitions"])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_copied_rows_are_found(kind: str, share: float) -> None:
    first = part(drawn(kind, 5_000, 1, 0), 1)
    other = part(drawn(kind, 5_000, 2, 1), 2)
    copied = round(share * 5_000)
    second = Part(
        np.concatenate([first.contents[:copied], other.contents[: 5_000 - copied]]),
        np.concatenate([first.clicked[:copied], other.clicked[: 5_000 - copied]]),
    )
    if (kind, share) != ("without repetitions", 0.3):
        assert copied_rows(first, second) > 0.02 * 5_000


def test_hashes_are_sampled_by_value(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    contents = random.integers(0, 2**63, 10_000).astype(np.uint64)
    identifiers = random.integers(0, 2**63, 10_000).astype(np.uint64) * np.uint64(2)
    splits, clicked = random.integers(0, 3, 10_000), random.random(10_000) < 0.1
    write_row_hashes(str(tmp_path), "00002-00000", identifiers, contents, splits, clicked)
    whole = read_row_hashes(str(tmp_path))
    assert (whole.splits == splits).all() and (whole.clicked == clicked).all() and set(whole.files.tolist()) == {2}
    assert whole.identifiers is not None and (whole.identifiers == identifiers).all()
    some = read_row_hashes(str(tmp_path), 0.1)
    assert 700 < len(some.contents) < 1_300 and common(some.contents, whole.contents).all()
    assert some.identifiers is not None and 700 < len(some.identifiers) == len(some.identifier_splits) < 1_300


def month_of(
    folder: Path, span: int, values: Values, identifiers: Values | None, *, sha256: str = "", held_out: float = 0.3
) -> Any:
    """A month's examples: what CopyDetector reads of them."""
    examples = standard_artifacts.Examples()
    examples.uri, examples.span = str(folder / str(span)), span
    made = part(values, 7)
    last = round(len(values) * (1 - held_out))
    splits = np.where(np.arange(len(values)) < last, 0, 2)
    hashes = None if identifiers is None else identifiers.astype(np.uint64)
    write_row_hashes(f"{examples.uri}/{ROW_HASHES}", "00000-00000", hashes, made.contents, splits, made.clicked)
    files = [{"path": f"/drops/{span}/a.csv", "bytes": 10_000, "sha256": sha256 or str(span)}]
    (folder / str(span) / "drop_files.json").write_text(json.dumps(files))
    counts = {"rows_examples": len(values), "rows_train": last, "rows_validation": 0, "rows_eval": len(values) - last}
    for name, count in counts.items():
        examples.set_int_custom_property(name, count)
    return examples


def detect(folder: Path, newest: Any, earlier: list[Any]) -> CopyReport:
    copies = Copies()
    copies.uri = str(folder / "copies")
    CopyDetectorExecutor().Do(
        {"examples": [newest], "earlier_examples": earlier},
        {"copies": [copies]},
        {"month": "2026-09", "compared_with": json.dumps([f"month {one.span}" for one in earlier])},
    )
    return read_copies(copies.uri)


def test_a_month_delivered_as_another_is_refused_by_its_identifiers(tmp_path: Path) -> None:
    values = drawn("all different", 1_000, 1, 0)
    months = [month_of(tmp_path, span, values, np.arange(1_000)) for span in (202608, 202609)]
    report = detect(tmp_path, months[1], months[:1])
    assert (report.held_out_rows, report.held_out_in_training) == (300, 300)
    reasons = report.refusals(0.01)
    assert "1,000 of 1,000 rows (100.00%) stand in month 202608 too, with the same identifier." in reasons[0]
    assert "300 of 300 held-out rows (100.00%) stand in training too" in reasons[-1]
    assert not report.refusals(1.0) and report.describe()


def test_a_month_with_new_identifiers_is_told_by_its_other_columns(tmp_path: Path) -> None:
    values = drawn("all different", 1_000, 1, 0)
    months = [month_of(tmp_path, span, values, np.arange(1_000) + span * 10_000) for span in (202608, 202609)]
    report = detect(tmp_path, months[1], months[:1])
    assert [found.by for found in report.shared] == ["columns"] and report.held_out_in_training == 300


def test_a_file_of_an_earlier_month_is_told(tmp_path: Path) -> None:
    months = [
        month_of(tmp_path, span, drawn("three columns", 400, span, 0), None, sha256="same") for span in (202608, 202609)
    ]
    report = detect(tmp_path, months[1], months[:1])
    assert "a.csv is a.csv of month 202608 once more, 100.00% of the month" in report.refusals(0.01)[0]


def test_a_month_of_its_own_passes_and_is_counted(tmp_path: Path) -> None:
    months = [
        month_of(tmp_path, span, drawn("three columns", 1_500, span, 0), None) for span in (202607, 202608, 202609)
    ]
    report = detect(tmp_path, months[2], months[:2])
    assert report.held_out_rows == 450 and report.held_out_equal > 400 and report.held_out_in_training == 0
    assert not report.refusals(0.0) and not report.describe()
    assert detect(tmp_path, months[0], []).held_out_in_training == 0
