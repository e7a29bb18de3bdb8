"""How often the default gates refuse a sound model, and bless a broken one: with intervals, and by the value alone.

    python -m benchmarks.gates [--rows N] [--creatives N] [--draws N] [--json FILE]

A few models are trained on sample data. Evaluation sets are drawn, with replacement, from the impressions of its newest
month that no model has seen, and their clicks anew from the true click probability, so that each set is one that might
have come. Sound are two models of different seeds, each against the other as the last blessed one. Broken are one whose
training clicks were shuffled, one trained on the first month alone, and a sound one judged by a month whose clicks lack
a fifth, or of which every tenth row comes again with the other label. By the value alone is what a gate without
intervals decides; the baseline of each figure is that gate on the same draws.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from adclick.models.fitting import fit, predict
from adclick.models.gates import Bounds, Measurement, Verdict, judge
from adclick.models.metrics import BY_NAME
from adclick.models.metrics.counts import FOLDS, Estimates, count, estimate, jackknife
from adclick.models.settings import EvaluationSettings
from adclick.models.training_data import Columns
from benchmarks.measure import Result, report
from benchmarks.prepared import transform
from benchmarks.quality import sample_task

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SIZES = (2_000, 20_000, 200_000)
_LOST = 0.2
_DOUBLED = 0.1
_MOST_FALSE_REFUSALS = 0.01


@dataclass(frozen=True)
class Case:
    """A candidate, what it is judged against, and how the month that judges it came about.

    Attributes:
        name: What it is called in the table.
        is_sound: Whether the gates should let it through.
        candidate: Its predictions of the pool's impressions.
        baseline: Those of the last blessed model.
        clicks: Draws clicks from true probabilities.
        is_doubled: Whether every tenth row comes again with the other label.
    """

    name: str
    is_sound: bool
    candidate: Floats
    baseline: Floats
    clicks: Callable[[np.random.Generator, Floats], Bools]
    is_doubled: bool = False


def _drawn(random: np.random.Generator, truth: Floats) -> Bools:
    return random.random(len(truth)) < truth


def _with_losses(random: np.random.Generator, truth: Floats) -> Bools:
    return random.random(len(truth)) < truth * (1 - _LOST)


def train_cases(rows: int, creatives: int, folder: Path) -> tuple[Floats, list[Case]]:
    """Trains the models; gives the true probabilities of the pool, and the cases."""
    task = sample_task(1, rows, creatives, folder / "data")
    data, pool = transform(task.impressions, task.split, folder / "transformed")
    config = task.impressions.config
    first_month = np.arange(len(data.train)) < len(data.train) // 3
    shuffled = np.random.default_rng(0).permutation(data.train.clicked)

    def trained(seed: int, what: str, train: Columns = data.train) -> Floats:
        print(f"training a model: {what}", flush=True)
        training = config.training.model_copy(update={"seed": seed})
        result = fit(
            train, data.validation, data.store, data.layout, config.network, training, config.ingestion.image_size
        )
        return predict(result.network, pool, data.store).astype(np.float64)

    sound, other = trained(1, "sound"), trained(2, "sound, another seed")
    return np.asarray(task.truth), [
        Case("sound", True, sound, other, _drawn),
        Case("sound, another seed", True, other, sound, _drawn),
        Case(
            "clicks shuffled in training",
            False,
            trained(1, "shuffled", replace(data.train, clicked=shuffled)),
            sound,
            _drawn,
        ),
        Case("a fifth of the newest clicks lost", False, sound, other, _with_losses),
        Case("every tenth row again, other label", False, sound, other, _drawn, is_doubled=True),
        Case(
            "trained on the first month alone", False, trained(1, "stale", data.train.take(first_month)), sound, _drawn
        ),
    ]


def decide(case: Case, truth: Floats, rows: int, random: np.random.Generator) -> tuple[bool, bool]:
    """Draws one evaluation set; says whether the gates bless, by the value alone and with intervals."""
    chosen = random.integers(0, len(truth), rows)
    clicked = case.clicks(random, truth[chosen])
    if case.is_doubled:
        again = random.random(rows) < _DOUBLED
        chosen, clicked = np.concatenate([chosen, chosen[again]]), np.concatenate([clicked, ~clicked[again]])
    fold = random.integers(0, FOLDS, len(chosen))
    ones = np.ones(len(chosen))
    candidate, baseline = (
        estimate(count(predictions[chosen], clicked, ones, fold)) for predictions in (case.candidate, case.baseline)
    )
    verdicts = list(_verdicts(candidate, candidate.minus(baseline), float(clicked.sum()), float(clicked.mean())))
    return all(verdict is Verdict.MET for verdict in verdicts), Verdict.MISSED not in verdicts


def _verdicts(value: Estimates, change: Estimates, clicks: float, rate: float) -> Iterator[Verdict]:
    gates = list(_gates())
    for metric, is_change, bounds in gates:
        found = change if is_change else value
        _, error = jackknife(found.value[metric], found.without[metric])
        measured = Measurement(metric, found.value[metric], is_change, error, FOLDS - 1, clicks, rate, gates=len(gates))
        yield judge(measured, bounds)


def _gates() -> Iterator[tuple[str, bool, Bounds]]:
    """The default gates: the metric, whether its change is judged, and what it may be."""
    for threshold in EvaluationSettings().thresholds:
        metric = threshold.metric
        yield (
            metric,
            False,
            Bounds(
                -math.inf if threshold.lower is None else threshold.lower,
                math.inf if threshold.upper is None else threshold.upper,
            ),
        )
        if threshold.max_drop is not None:
            drop = threshold.max_drop
            yield metric, True, Bounds(lower=-drop) if BY_NAME[metric].higher_is_better else Bounds(upper=drop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="impressions of the sample data, over its months")
    parser.add_argument("--creatives", type=int, default=800)
    parser.add_argument("--draws", type=int, default=200, help="evaluation sets of each case and size")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adclick-gates-") as folder:
        truth, cases = train_cases(options.rows, options.creatives, Path(folder))
    results: list[tuple[Case, int, float, float, int]] = []
    for case in cases:
        for size in SIZES:
            random = np.random.default_rng([size, len(results)])
            blessed = np.array([decide(case, truth, size, random) for _ in range(options.draws)])
            by_value, with_intervals = blessed.mean(axis=0)
            slipped = int((blessed[:, 1] & ~blessed[:, 0]).sum())
            print(f"{case.name}, {size:,} rows: blessed {by_value:.1%} by value, {with_intervals:.1%} now", flush=True)
            results.append((case, size, by_value, with_intervals, slipped))
    table = Table("judged", "rows", "wrong by the value alone", "wrong with intervals", "caught before, not now")
    measured = []
    for case, size, by_value, with_intervals, slipped in results:
        before, after = (1 - by_value, 1 - with_intervals) if case.is_sound else (by_value, with_intervals)
        table.add_row(case.name, f"{size:,}", f"{before:.1%}", f"{after:.1%}", "" if case.is_sound else str(slipped))
        if case.is_sound:
            name = f"{case.name}, {size:,} rows: refused, over the allowed {_MOST_FALSE_REFUSALS:.0%}"
            measured.append(Result(name, after, before, "share", after / _MOST_FALSE_REFUSALS, "<= 1"))
        elif size > min(SIZES):
            caught = (1 - before) * options.draws
            name = f"{case.name}, {size:,} rows: blessed, of those caught by value"
            measured.append(Result(name, slipped, caught, "draws", slipped / max(caught, 1), "<= 0"))
    Console().print(table)
    report("gates", measured, options.json)


if __name__ == "__main__":
    main()
