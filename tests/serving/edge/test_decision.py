"""Decisions by the catalogue, and streaks that make an alert."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adclick.serving.edge import catalogue as catalogue_module
from adclick.serving.edge.bundle import read_bundle
from adclick.serving.edge.catalogue import ApprovedCreative, Catalogue, quantise
from adclick.serving.edge.decision import Decision, Hysteresis, decide
from adclick.serving.edge.frame import open_frame
from adclick.serving.edge.keys import read_public_key
from adclick.serving.edge.watch import Eye
from tests.serving.edge.pictures import encoded, picture


@pytest.mark.parametrize(
    ("seed", "kind", "creative"),
    [(0, "approved", "a"), (1, "forbidden", "b"), (2, "expired", "c"), (3, "early", "d"), (99, "unknown", None)],
)
def test_a_picture_is_what_its_row_says(
    make_bundle: Callable[..., bytes], keys: tuple[Path, Path], seed: int, kind: str, creative: str | None
) -> None:
    eye = Eye(read_bundle(make_bundle(), [read_public_key(keys[1])]))
    decision = eye.look(open_frame(encoded(picture(seed, 640, 360))))
    assert (decision.kind, decision.creative and decision.creative.id) == (kind, creative)
    assert (decision.similarity >= 0.9) == (creative is not None)


def test_a_clock_before_the_bundle_was_made_does_not_unbook(
    make_bundle: Callable[..., bytes], keys: tuple[Path, Path]
) -> None:
    bundle = read_bundle(make_bundle(created=int(time.time()) + 10**12), [read_public_key(keys[1])])
    assert Eye(bundle).look(picture(3)).kind == "approved"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_recognises_nothing(catalogue: Catalogue, value: float) -> None:
    broken = np.full(catalogue.embeddings.shape[1], value, np.float32)
    with np.errstate(invalid="ignore"):
        decision = decide(catalogue, 0.9, broken, 0.0)
    assert (decision.kind, decision.similarity) == ("unknown", -1.0)


def test_an_empty_catalogue_knows_nothing() -> None:
    empty = Catalogue((), np.zeros((0, 8), np.int8), np.zeros(0, np.float32))
    assert decide(empty, 0.0, np.ones(8, np.float32), 0.0).kind == "unknown"


def test_a_large_catalogue_is_searched_in_parts_with_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    rows = random.normal(size=(1000, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    creatives = tuple(ApprovedCreative(str(number), "") for number in range(1000))
    small = Catalogue(creatives, *quantise(rows))
    monkeypatch.setattr(catalogue_module, "ROWS_AT_ONCE", 64)
    large = Catalogue(creatives, *quantise(rows))
    for number in range(0, 1000, 37):
        row, similarity = large.nearest(rows[number])
        assert row == number and similarity == pytest.approx(1, abs=1e-3)
        assert small.nearest(rows[number]) == (row, pytest.approx(similarity, abs=1e-6))


GOOD, BAD = Decision("approved", ApprovedCreative("a", ""), 1.0), Decision("unknown", None, 0.1)
WORSE = Decision("forbidden", ApprovedCreative("b", ""), 1.0)


def test_an_alert_opens_and_closes_after_streaks_and_is_of_the_commonest_kind() -> None:
    streaks = Hysteresis(3)
    told = [streaks.take(each, 0.0) for each in (BAD, BAD, GOOD, BAD, WORSE, WORSE, BAD, GOOD, BAD, GOOD, GOOD, GOOD)]
    assert [each and each.kind for each in told] == [*[None] * 5, "forbidden", *[None] * 5, "approved"]


def test_a_hold_counts_time_that_does_not_jump() -> None:
    streaks = Hysteresis(2, 1.0)
    assert [streaks.take(BAD, at) is not None for at in (10.0, 10.4, 10.9, 11.0)] == [False, False, False, True]


@given(st.lists(st.booleans()), st.integers(1, 5))
def test_it_turns_just_where_a_streak_says_so(threats: list[bool], frames: int) -> None:
    streaks, is_open, streak = Hysteresis(frames), False, 0
    for threat in threats:
        streak = streak + 1 if threat != is_open else 0
        turns = streak == frames
        assert (streaks.take(BAD if threat else GOOD, 0.0) is not None) == turns
        if turns:
            is_open, streak = threat, 0
        assert streaks.is_open == is_open
