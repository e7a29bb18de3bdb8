"""Codes or quantities: the reading that the clicks themselves speak for."""

from __future__ import annotations

import numpy as np
import pytest

from adclick.pipeline.onboarding.evidence import LEAST_CLICKS, weigh

ROWS = 8_000


def clicks(logits: np.ndarray, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.random(len(logits)) < 1 / (1 + np.exp(-logits))).astype(np.int64)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("values", [[0, 1, 2, 3, 4, 5], [0, 17, 4_280_543_349, 1_111_111, 99]])
def test_values_with_effects_in_no_order_are_codes(values: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    chosen = random.integers(0, len(values), ROWS)
    effects = np.resize([1.5, -1.5, 1.5, -1.5], len(values))
    evidence = weigh(
        np.array(values, np.float64)[chosen], clicks(effects[chosen] - 1, seed), take_logarithm=False, buckets=0
    )
    assert evidence is not None
    assert evidence.is_decisive
    assert evidence.favours_codes


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("take_logarithm", "buckets"), [(False, 0), (True, 0), (True, 20)])
def test_many_values_with_a_rising_effect_are_a_quantity(take_logarithm: bool, buckets: int, seed: int) -> None:
    numbers = np.round(np.random.default_rng(seed).lognormal(6, 1, ROWS))
    evidence = weigh(numbers, clicks(np.log(numbers) - 7, seed), take_logarithm=take_logarithm, buckets=buckets)
    assert evidence is not None
    assert evidence.is_decisive
    assert not evidence.favours_codes


def test_numbers_without_an_effect_decide_hardly_ever() -> None:
    decisive = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        evidence = weigh(
            random.integers(0, 97, 2_000).astype(np.float64),
            clicks(np.full(2_000, -2.0), seed),
            take_logarithm=False,
            buckets=0,
        )
        assert evidence is not None
        decisive += evidence.is_decisive
    assert decisive <= 2


def test_a_constant_is_neither() -> None:
    evidence = weigh(np.full(ROWS, 7.0), clicks(np.zeros(ROWS)), take_logarithm=True, buckets=20)
    assert evidence is not None
    assert not evidence.is_decisive


@pytest.mark.parametrize("clicked", [np.zeros(ROWS, np.int64), np.ones(ROWS, np.int64), np.zeros(0, np.int64)])
def test_without_clicks_nothing_is_compared(clicked: np.ndarray) -> None:
    clicked[: LEAST_CLICKS - 1] = 1 - clicked[: LEAST_CLICKS - 1]
    assert weigh(np.arange(len(clicked), dtype=np.float64), clicked, take_logarithm=False, buckets=0) is None
