"""The additive model: shrunk as the data warrant, with the combinations that show effects."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adclick.models.effects import Effects, ascent, estimate_effects, refit_effects

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


def test_few_pairs_of_many_are_taken_by_chance() -> None:
    """Few clicks and many columns without meaning: no pair, and predictions no worse than the click rate."""
    random = np.random.default_rng(5)
    categories = random.zipf(1.5, (8_000, 40)) % 12
    clicked = (random.random(8_000) < 0.01).astype(np.float64)
    effects = estimate_effects(categories, clicked, [12] * 40, largest_combination=500, evidence=3)
    assert len(effects.tables) == 40
    logits = effects.logits(random.zipf(1.5, (8_000, 40)) % 12)
    truth = np.full(8_000, np.log(0.01 / 0.99))
    rate = clicked.mean()
    assert log_loss(logits, truth) < log_loss(np.full(8_000, np.log(rate / (1 - rate))), truth) + 2e-4


def test_effects_are_no_worse_than_the_click_rate() -> None:
    """Few clicks and columns without meaning, of many values and of few."""
    losses = []
    for seed in range(8):
        random = np.random.default_rng(seed)
        categories = np.stack([random.zipf(1.2, 10_000) % size for size in (400, 100, 30, 8)], axis=1)
        clicked = (random.random(10_000) < 0.01).astype(np.float64)
        seen, unseen = slice(0, 4_000), slice(4_000, None)
        effects = estimate_effects(
            categories[seen], clicked[seen], [400, 100, 30, 8], largest_combination=4_096, evidence=3
        )
        truth = np.full(6_000, np.log(0.01 / 0.99))
        rate = clicked[seen].mean()
        base = log_loss(np.full(6_000, np.log(rate / (1 - rate))), truth)
        losses.append(log_loss(effects.logits(categories[unseen]), truth) - base)
    assert np.mean(losses) < 2e-4 and max(losses) < 1e-3


def test_neighbours_share_what_they_have_in_common() -> None:
    """A quantity in 20 buckets whose effect grows steadily, and missing values apart, from few clicks."""
    random = np.random.default_rng(6)
    losses = []
    for ordered in ({}, {0: 20}):
        random = np.random.default_rng(6)
        bucket = random.integers(0, 21, 4_000)
        truth = np.where(bucket == 20, -4.0, -3.6 + 0.09 * bucket)
        clicked = (random.random(4_000) < 1 / (1 + np.exp(-truth))).astype(np.float64)
        effects = estimate_effects(bucket[:, None], clicked, [21], largest_combination=0, evidence=3, ordered=ordered)
        assert effects.tables[0].effects.shape == (21,) and len(effects.tables) == 1
        losses.append(log_loss(effects.logits(bucket[:, None]), truth))
    assert losses[1] < losses[0]


def visits(rows: int, seed: int, by_count: float) -> tuple[np.ndarray[Any, Any], Floats, Floats]:
    """Users, a third of whom come once and some a hundred times, clicks and true logits, which fall with their visits.

    The last value is that of users who were not seen in the first half of the rows.
    """
    random = np.random.default_rng(seed)
    users = random.permutation(np.repeat(np.arange(rows), np.minimum(random.zipf(1.7, rows), 100))[:rows])
    visits = np.bincount(users, minlength=rows)[users]
    truth = -2.5 - by_count * np.log(visits)
    clicked = (random.random(rows) < 1 / (1 + np.exp(-truth))).astype(np.float64)
    seen, numbers = np.unique(users[: rows // 2], return_inverse=True)
    where = np.minimum(np.searchsorted(seen, users), len(seen) - 1)
    users = np.where(seen[where] == users, where, len(seen))
    users[: rows // 2] = numbers
    return users[:, None], clicked, truth


def estimate_visits(users: np.ndarray[Any, Any], clicked: Floats) -> tuple[Effects, Effects]:
    """The effects, and those that know nothing of counts."""
    size = int(users.max()) + 1
    half = slice(0, len(users) // 2)
    found = estimate_effects(
        users[half], clicked[half], [size], largest_combination=0, evidence=3, unknown={0: size - 1}
    )
    blind = replace(found, tables=(replace(found.tables[0], counted=False),))
    return found, refit_effects(blind, users[half], clicked[half], np.full(len(users) // 2, found.intercept))


@pytest.mark.parametrize("seed", range(3))
def test_how_often_a_value_occurs_is_learned_from(seed: int) -> None:
    users, clicked, truth = visits(20_000, seed, 0.5)
    half = slice(len(users) // 2, None)
    effects, blind = estimate_visits(users, clicked)
    assert effects.tables[0].counted
    counts = np.bincount(users[: len(users) // 2, 0], minlength=len(effects.tables[0].effects))
    rare, frequent = effects.tables[0].effects[-1], effects.tables[0].effects[counts > 30]
    assert rare > frequent.mean() + 0.5
    with_counts = log_loss(effects.logits(users[half]), truth[half])
    assert with_counts < log_loss(blind.logits(users[half]) + effects.intercept, truth[half]) - 1e-3


def test_refitted_effects_go_on_knowing_counts() -> None:
    users, clicked, _ = visits(20_000, 1, 0.5)
    effects, _ = estimate_visits(users, clicked)
    again = refit_effects(effects, users[:10_000], clicked[:10_000], np.full(10_000, effects.intercept))
    assert again.tables[0].counted
    assert np.abs(again.tables[0].effects - effects.tables[0].effects).mean() < 0.05


def test_counts_that_do_not_matter_are_not_learned_from() -> None:
    found = [estimate_visits(*visits(10_000, seed, 0.0)[:2])[0].tables[0] for seed in range(10)]
    assert sum(table.counted for table in found) <= 2
    assert all(np.abs(table.effects).max() < 0.3 for table in found)


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


@given(
    logits=arrays(np.float64, 40, elements=st.floats(-30, 30)),
    clicked=arrays(np.float64, 40, elements=st.sampled_from([0.0, 1.0])),
    effect=st.floats(-10, 10),
    precision=st.floats(0.01, 1e5),
)
def test_no_step_lowers_the_penalised_likelihood(
    logits: Floats, clicked: Floats, effect: float, precision: float
) -> None:
    def likelihood(step: float) -> float:
        moved = logits + step
        return float((clicked * moved - np.logaddexp(0, moved)).sum() - precision * (effect + step) ** 2 / 2)

    chance = 1 / (1 + np.exp(-logits))
    step = ascent((clicked - chance).sum() - precision * effect, (chance * (1 - chance)).sum() + precision)
    assert likelihood(float(step)) >= likelihood(0) - 1e-9 * abs(likelihood(0))


@pytest.mark.parametrize(
    ("columns", "rate"), [*product((1, 10), (0.0001, 0.01, 0.5, 0.99)), (300, 0.0001), (300, 0.01), (300, 0.99)]
)
def test_every_log_ends_in_a_bounded_fit(columns: int, rate: float) -> None:
    """One column equals the label, one holds only clicks in some values, one is constant; the others mean nothing."""
    rows = 10_000 if columns < 300 else 1_000
    random = np.random.default_rng(columns)
    clicked = (random.random(rows) < rate).astype(np.float64)
    clicked[:2] = 0, 1
    categories = random.zipf(1.3, (rows, columns)) % 50
    special = (clicked, np.where(clicked == 1, random.integers(0, 50, rows), 0), np.zeros(rows))
    for column, values in enumerate(special[:columns]):
        categories[:, column] = values
    for taken in (slice(None), slice(1, None))[: 1 if columns == 300 else 2]:
        chosen = categories[:, taken]
        sizes = [50] * chosen.shape[1]
        if sizes:
            largest = 2_500 if columns < 300 else 0
            effects = estimate_effects(chosen, clicked, sizes, largest_combination=largest, evidence=3)
            check_bounded(effects, chosen, clicked, np.zeros(rows))
            offset = random.uniform(-10, 10, rows)
            check_bounded(refit_effects(effects, chosen, clicked, offset), chosen, clicked, offset)


def check_bounded(effects: Effects, categories: Floats, clicked: Floats, offset: Floats) -> None:
    logits = effects.logits(categories) + offset
    assert np.abs(logits).max() < 100
    assert all(0 <= table.deviation <= 5 for table in effects.tables)
    certain = np.where(clicked == 1, 40.0, -40.0)
    chance = clicked.mean()
    constant = np.log(chance / (1 - chance)) - offset.mean()
    assert log_loss(logits, certain) <= log_loss(constant + offset, certain)


@pytest.mark.parametrize("seed", range(3))
def test_rare_clicks_and_a_strong_column_are_fitted(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = 60_000
    app, channel = random.zipf(1.6, rows) % 160, random.zipf(1.3, rows) % 150
    effect = random.normal(0, 2.6, 160)
    logits = -8.5 + effect[app] + random.normal(0, 0.8, 150)[channel]
    logits[np.isin(app, np.argsort(effect)[-12:])] += 2.5
    clicked = (random.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    categories = np.stack([app, channel], axis=1)
    seen, unseen = slice(0, 40_000), slice(40_000, None)
    effects = estimate_effects(categories[seen], clicked[seen], [160, 150], largest_combination=4_096, evidence=3)
    rate = clicked[seen].mean()
    base = np.full(20_000, np.log(rate / (1 - rate)))
    assert log_loss(effects.logits(categories[unseen]), logits[unseen]) < 0.9 * log_loss(base, logits[unseen])
