"""How a month is parted: three parts, in the order of time, near the shares wanted."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adclick.components.ad_example_gen.settings import SplitSettings
from adclick.components.ad_example_gen.split_times import MINUTE, SplitTimes, choose_split_times

_ROWS_BY_MINUTE = st.dictionaries(st.integers(0, 10_000), st.integers(1, 50), max_size=40)
_SHARE = st.floats(0.01, 0.98)


@given(_ROWS_BY_MINUTE, _SHARE, _SHARE)
def test_each_part_has_rows_and_comes_after_the_one_before(
    rows: dict[int, int], evaluation: float, validation: float
) -> None:
    if evaluation + validation >= 1:
        evaluation, validation = evaluation / 2, validation / 2
    times = choose_split_times(rows, SplitSettings(eval_share=evaluation, validation_share=validation))
    assert (times is None) == (len(rows) < 3)
    if times is not None:
        parts = [
            [minute for minute in rows if minute * MINUTE < times.validation_from],
            [minute for minute in rows if times.validation_from <= minute * MINUTE < times.evaluation_from],
            [minute for minute in rows if times.evaluation_from <= minute * MINUTE],
        ]
        assert all(parts) and sum(map(len, parts)) == len(rows)
        assert all(max(before) < min(after) for before, after in itertools.pairwise(parts))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (dict.fromkeys(range(100), 7), SplitTimes(70 * MINUTE, 80 * MINUTE)),
        ({0: 7, 5: 1, 9: 2}, SplitTimes(5 * MINUTE, 9 * MINUTE)),
        ({0: 1, 1: 1, 2: 98}, SplitTimes(1 * MINUTE, 2 * MINUTE)),
        ({0: 1, 1: 98, 2: 1}, SplitTimes(1 * MINUTE, 2 * MINUTE)),
        ({0: 5, 1: 5}, None),
        ({}, None),
    ],
)
def test_parts_come_as_near_to_the_shares_as_whole_minutes_allow(
    rows: dict[int, int], expected: SplitTimes | None
) -> None:
    assert choose_split_times(rows, SplitSettings()) == expected


@given(st.floats(0.001, 0.999))
def test_a_config_without_a_share_of_validation_holds_for_any_share_of_evaluation(share: float) -> None:
    split = SplitSettings.model_validate({"eval_share": share})
    assert 0 < split.validation_share < 1 - split.eval_share
    assert split.validation_share == 0.1 or share > 0.8
    assert SplitSettings.model_validate_json(split.model_dump_json()) == split


def test_something_must_be_left_to_train_on() -> None:
    with pytest.raises(ValidationError, match="nothing to train on"):
        SplitSettings(eval_share=0.7, validation_share=0.3)
