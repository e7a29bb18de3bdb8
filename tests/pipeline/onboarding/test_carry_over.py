"""Ids whose values do not come back are set aside; those that do are kept, however many there are."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adclick.pipeline.onboarding import InitResult, run_init
from adclick.pipeline.onboarding.carry_over import LEAST_CARRIED, most_carried

ROWS = 6_000


def sessions(rows: int, random: np.random.Generator) -> list[str]:
    """An id of one to four rows that stand together."""
    lengths = random.integers(1, 5, rows)
    return [f"s{number:09x}" for number in np.repeat(random.integers(0, 2**36, rows), lengths)[:rows]]


def returning(rows: int, random: np.random.Generator, rows_of_each: int) -> list[str]:
    return [f"u{number}" for number in random.integers(0, rows // rows_of_each, rows)]


def initialise(tmp_path: Path, ids: Sequence[str], *, timed: bool) -> tuple[InitResult, str]:
    """Of a log with the column `visitor_token`: what came of it and the warnings about it."""
    random = np.random.default_rng(5)
    rows = len(ids)
    seconds = 1_790_812_800 + np.sort(random.integers(0, 27 * 86_400, rows))
    columns: dict[str, Sequence[Any]] = {"timestamp": seconds.tolist()} if timed else {}
    position = random.integers(1, 5, rows)
    columns |= {
        "visitor_token": ids,
        "position": position.tolist(),
        "clicked": (random.random(rows) < 0.02 * position).astype(int).tolist(),
    }
    path = tmp_path / "log.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerow(columns)
        csv.writer(stream).writerows(zip(*columns.values(), strict=True))
    result = run_init(path, tmp_path / "project", force=False)
    return result, "\n".join(line for line in result.warnings if "'visitor_token'" in line)


def role(result: InitResult) -> str:
    return next(column.role for column in result.columns if column.name == "visitor_token")


def test_ids_that_do_not_come_back_are_set_aside_and_told(tmp_path: Path) -> None:
    result, warning = initialise(tmp_path, sessions(ROWS, np.random.default_rng(1)), timed=True)
    assert role(result) == "ignored"
    assert "do not come back" in warning


@pytest.mark.parametrize("rows_of_each", [2, 5, 50])
@pytest.mark.parametrize("timed", [True, False])
def test_ids_that_come_back_are_kept(tmp_path: Path, rows_of_each: int, timed: bool) -> None:
    result, warning = initialise(tmp_path, returning(ROWS, np.random.default_rng(2), rows_of_each), timed=timed)
    assert (role(result), warning) == ("categorical", "")


def test_ids_that_a_sample_rarely_shows_twice_are_kept(tmp_path: Path) -> None:
    result, warning = initialise(tmp_path, returning(120_000, np.random.default_rng(3), 3), timed=True)
    assert (role(result), warning) == ("categorical", "")


def test_a_log_without_times_may_be_sorted_by_an_id_that_returns(tmp_path: Path) -> None:
    result, warning = initialise(tmp_path, sorted(returning(ROWS, np.random.default_rng(4), 3)), timed=False)
    assert role(result) == "categorical"
    assert "If its values do not come back" in warning


def test_ids_of_many_rows_are_kept_and_told(tmp_path: Path) -> None:
    ids = [f"ad{number // 40}" for number in range(ROWS)]
    result, warning = initialise(tmp_path, ids, timed=True)
    assert role(result) == "categorical"
    assert "If its values do not come back" in warning


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("rows_of_each", [1, 2, 10])
def test_the_bound_holds_for_a_sample(share: float, rows_of_each: int) -> None:
    random = np.random.default_rng(7)
    ids = returning(40_000, random, rows_of_each)
    known = set(ids[:32_000])
    true = sum(value in known for value in ids[32_000:]) / 8_000
    taken = np.sort(random.permutation(len(ids))[: round(share * len(ids))])
    cells = [ids[row] for row in taken]
    assert most_carried(cells, known | set(ids), np.arange(len(cells)), share) >= true


def test_nothing_is_said_of_few_rows() -> None:
    cells = [str(number) for number in range(100)]
    assert most_carried(cells, set(cells), np.arange(100), 1.0) > LEAST_CARRIED
