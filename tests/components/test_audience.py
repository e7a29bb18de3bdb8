"""The audience that a version keeps: like all traffic, however its log was sampled, and without who clicked."""

from __future__ import annotations

import numpy as np
import pytest

from adclick.components.click_evaluator.audience import audience_rows, draw, merge_draws
from adclick.models.held_out import AUDIENCE_ROWS
from tests.models.tiny_model import FEATURES, as_example

ROWS = 60_000


def drawn(negative_sampling_rate: float, clicked: np.ndarray, seed: int) -> np.ndarray:
    """Whether each row of a log was drawn, read in batches of several files."""
    names = [b"%d" % row for row in range(len(clicked))]
    draws = [
        draw(names[rows], clicked[rows], negative_sampling_rate, np.random.default_rng([seed, number, 7]))
        for number, rows in enumerate(slice(start, start + 5_000) for start in range(0, len(clicked), 5_000))
    ]
    halves = [merge_draws(draws[:5]), merge_draws(draws[5:])]
    return np.isin(np.arange(len(clicked)), [int(name) for _, name in merge_draws(halves)])


@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_the_share_of_clicks_is_that_of_all_traffic(rate: float) -> None:
    random = np.random.default_rng(3)
    traffic = random.random(ROWS) < 0.2
    log = traffic[traffic | (random.random(ROWS) < rate)]
    chosen = [log[drawn(rate, log, seed)] for seed in range(5)]
    assert all(len(each) == AUDIENCE_ROWS for each in chosen)
    clicked = np.mean([each.mean() for each in chosen])
    # Five draws of 2,000: a standard error of 0.004. The log itself holds 71 % clicks at a rate of 0.1.
    assert clicked == pytest.approx(0.2, abs=0.02)


def test_rows_are_drawn_from_every_batch_alike() -> None:
    places = np.flatnonzero(drawn(1.0, np.zeros(ROWS, bool), 1))
    of_batch = np.bincount(places // 5_000, minlength=12)
    # Binomial about 167, a standard deviation of 12.
    assert of_batch.min() > 100
    assert of_batch.max() < 240


def test_fewer_rows_than_asked_for_are_all_there() -> None:
    assert drawn(1.0, np.zeros(123, bool), 1).sum() == 123


def test_a_row_is_what_a_request_gives() -> None:
    full = {
        "clicked": [1],
        "shown_at": [1_790_812_800],
        "ad": ["Ä".encode()],
        "site": [b"\xff\xfe"],
        "topics": [b"t1", b"t2"],
        "price": [0.1],
        "height": [],
        "image": [b"0123"],
    }
    rows, replaced, left_out = audience_rows([as_example(full)], FEATURES)
    assert rows == (
        {
            "shown_at": 1_790_812_800,
            "ad": "Ä",
            "site": "\ufffd\ufffd",
            "topics": ["t1", "t2"],
            "price": 0.1,
            "image": "0123",
        },
    )
    assert (replaced, left_out) == (1, 0)


def test_rows_that_are_too_much_are_left_out_and_counted() -> None:
    examples = [as_example({"ad": [b"a" * length]}) for length in (400, 900, 500)]
    rows, _, left_out = audience_rows(examples, FEATURES, most_bytes=1_000)
    assert [len(row["ad"]) for row in rows] == [400, 500]
    assert left_out == 1
