"""The additive model: shrunk as the data warrant, with the combinations that show effects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.effects import Effects, estimate_effects

SIZES = [40, 6, 5, 300, 1]
Floats = np.ndarray[Any, Any]


def draw(rows: int, *, pair: float = 0.0, seed: int = 0) -> tuple[np.ndarray[Any, Any], Floats, Floats]:
    """Categories, clicks and true logits: fields 0 and 1 matter, 2 to 4 do not; 1 and 2 together by `pair`."""
    random = np.random.default_rng(seed)
    categories = np.stack([random.integers(0, size, rows) for size in SIZES], axis=1)
    strong, weak = random.normal(0, 0.8, SIZES[0]), random.normal(0, 0.3, SIZES[1])
    together = random.normal(0, pair, (SIZES[1], SIZES[2])) if pair else np.zeros((SIZES[1], SIZES[2]))
    logits = -2.5 + strong[categories[:, 0]] + weak[categories[:, 1]] + together[categories[:, 1], categories[:, 2]]
    clicked = (random.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    return categories, clicked, logits


def estimate(categories: np.ndarray[Any, Any], clicked: Floats) -> Effects:
    return estimate_effects(categories, clicked, SIZES, largest_combination=500, evidence=3)


def log_loss(logits: Floats, truth: Floats) -> float:
    chance = 1 / (1 + np.exp(-truth))
    return float(np.mean(np.log1p(np.exp(logits)) - chance * logits))


def test_deviations_are_found() -> None:
    effects = estimate(*draw(40_000)[:2])
    deviation = {table.fields: table.deviation for table in effects.tables}
    assert deviation[0,] == pytest.approx(0.8, rel=0.35)
    assert deviation[2,] < 0.08 and deviation[3,] < 0.15 and deviation[4,] < 0.1


def test_only_a_true_pair_is_taken() -> None:
    null = [estimate(*draw(20_000, seed=seed)[:2]) for seed in range(4)]
    assert sum(len(effects.tables) - len(SIZES) for effects in null) <= 1
    found = estimate(*draw(20_000, pair=0.6)[:2])
    assert (1, 2) in {table.fields for table in found.tables}


def test_shrinkage_beats_both_the_click_rate_and_raw_frequencies() -> None:
    categories, clicked, truth = draw(6_000, pair=0.4)
    seen, unseen = slice(0, 3_000), slice(3_000, None)
    effects = estimate(categories[seen], clicked[seen])
    rate = clicked[seen].mean()
    base = np.full(3_000, np.log(rate / (1 - rate)))
    ads = categories[seen, 0]
    counts = np.bincount(ads, minlength=SIZES[0])
    raw = (np.bincount(ads, clicked[seen], SIZES[0]) + 0.5) / (counts + 1)
    by_frequency = np.log(raw / (1 - raw))[categories[unseen, 0]]
    ours = log_loss(effects.logits(categories[unseen]), truth[unseen])
    assert ours < log_loss(by_frequency, truth[unseen])
    assert ours < log_loss(base, truth[unseen])


def test_predictions_of_unseen_impressions_are_calibrated() -> None:
    ratios = []
    for seed in range(6):
        categories, clicked, truth = draw(8_000, seed=seed)
        effects = estimate(categories[:4_000], clicked[:4_000])
        predicted = 1 / (1 + np.exp(-effects.logits(categories[4_000:])))
        ratios.append(predicted.mean() / (1 / (1 + np.exp(-truth[4_000:]))).mean())
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)


def test_a_value_never_seen_has_no_effect() -> None:
    categories, clicked, _ = draw(2_000)
    effects = estimate(np.minimum(categories, [38, 5, 4, 299, 0]), clicked)
    assert effects.tables[0].effects[39] == 0


def test_the_same_data_give_the_same_effects() -> None:
    categories, clicked, _ = draw(2_000, pair=0.5)
    first, second = estimate(categories, clicked), estimate(categories, clicked)
    assert first.intercept == second.intercept
    np.testing.assert_array_equal(first.logits(categories), second.logits(categories))


def test_a_few_rare_values_do_not_speak_for_all_unknown_ones() -> None:
    random = np.random.default_rng(1)
    categories, clicked, _ = draw(20_000)
    unknown = SIZES[0] - 1
    few = categories[:, 0] == unknown
    clicked[few & (random.random(len(few)) < 0.95)] = 0
    categories[few & (random.random(len(few)) < 0.9), 0] = 0
    free = estimate(categories, clicked)
    shrunk = estimate_effects(categories, clicked, SIZES, largest_combination=0, evidence=3, unknown={0: unknown})
    assert free.tables[0].effects[unknown] < -0.4
    assert -0.2 < shrunk.tables[0].effects[unknown] < 0
    assert shrunk.tables[0].deviation == pytest.approx(free.tables[0].deviation, rel=0.1)
