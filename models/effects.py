"""Effects of category values and of their combinations, each shrunk as far as its own clicks warrant.

The wide half of the network: a sum of effects, one for each value of each field, and for each combination of values of
the few pairs and triples of fields that show effects of their own. How far the values of a table differ, its deviation,
is estimated from the data (empirical Bayes), so that a field that does not matter adds no noise and an id with three
impressions is believed only a little. The network starts from these estimates and keeps their priors.

The values of a quantity's buckets stand in an order: what neighbours share is estimated with them. Values that are
equally frequent may have something in common, such as users who come once: where the clicks show it, an effect is drawn
towards theirs, and that of values never seen is the effect of being seen by no other impression.

Few clicks can mislead many tables at once. By few, what all effects together are worth is estimated, too, on
impressions that they were not fitted to.

Sources: variance components with the posterior of each effect taken as normal (Breslow & Clayton 1993, "Approximate
inference in generalized linear mixed models"), re-estimated as MacKay does (1992, "Bayesian interpolation"), which
comes to none where there is none; the test for a combination is the score test of a variance component (Lin 1997,
"Variance component testing in generalised linear models with random effects"), of many at once by their false
discovery rate (Benjamini & Hochberg 1995).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]

_START_DEVIATION = 0.2
#: Of ordered values, so many neighbours at a time share an effect; and how much such effects differ at first.
_NEIGHBOURS = (2, 4, 8)
_START_DEVIATION_OF_NEIGHBOURS = 0.1
#: Of fields with fewer values, none of which is rare, it is not asked whether rare values are clicked more or less.
_MANY_VALUES = 50
#: How much values of one count differ from those of another, at first.
_START_DEVIATION_OF_COUNTS = 0.1
#: A deviation changes by this factor at most in a cycle.
_LARGEST_CHANGE = 2.0
#: Deviations below this, in logits, are taken for none.
_SMALLEST_DEVIATION = 0.003
#: What unknown values share is a mean of many, which varies less than one value does: by this much. The few rare values
#: of the training data say little of the new ones that come later.
_UNKNOWN_SHARE = 0.25
#: Deviations above this, in logits, say that the classes are parted, not how far: a factor of 150 in the odds.
_LARGEST_DEVIATION = 5.0
#: Further from 0, a logit's odds are those of certainty as far as float64 can tell.
_LARGEST_LOGIT = 500.0
#: A fit has converged where in a cycle no impression's logit moves further, and no deviation changes by a larger share.
_STILL = 0.01
_MOST_CYCLES = 25
#: Of the combinations that are taken, so many by chance, on average.
_FALSE_DISCOVERIES = 0.1
#: Effects are judged by what they predict of impressions that they were not fitted to, in so many parts; of so many
#: clicks at most, since by more each table shows for itself what it is worth, and of so many impressions, for the time.
_FOLDS = 4
_MOST_CLICKS_TO_SCALE = 1_000
_MOST_ROWS_TO_SCALE = 200_000
#: Combinations times impressions that are tested at most; of more, those of the columns whose values differ the most.
_MOST_TESTED = 400_000_000


@dataclass(frozen=True)
class EffectTable:
    """The effects of the values of one field, or of the combinations of values of several.

    Attributes:
        fields: Positions of the fields.
        sizes: Number of values of each.
        deviation: Prior standard deviation of the effects, in logits.
        effects: float64 [product of sizes], in row-major order of the fields' values.
        unknown: The position of the effect that all unknown values share; None if there is none.
        means: Prior means of the effects: what values that are as frequent have in common. None where that is nothing.
        counted: Whether it was looked for; for a table of one field.
    """

    fields: tuple[int, ...]
    sizes: tuple[int, ...]
    deviation: float
    effects: Floats
    unknown: int | None = None
    means: Floats | None = None
    counted: bool = False

    @property
    def deviations(self) -> Floats:
        """The prior standard deviation of each effect, in logits."""
        every = np.full(len(self.effects), self.deviation)
        if self.unknown is not None:
            every[self.unknown] *= _UNKNOWN_SHARE
        return every

    @property
    def strides(self) -> tuple[int, ...]:
        """What a step of each field's value moves in `effects`."""
        return tuple(int(np.prod(self.sizes[position + 1 :], dtype=np.int64)) for position in range(len(self.sizes)))

    def cells(self, categories: Ints) -> npt.NDArray[np.int64]:
        """The position in `effects` of each row of categories [rows, fields]."""
        positions = np.zeros(len(categories), np.int64)
        for field, stride in zip(self.fields, self.strides, strict=True):
            positions += categories[:, field].astype(np.int64) * stride
        return positions


@dataclass(frozen=True)
class Effects:
    """An additive model of the click logit.

    Attributes:
        intercept: The logit of an impression whose values have no effect.
        tables: A table for each field, then those of combinations.
        scale: What their effects were multiplied by, from 0 to 1, for what they predict of other impressions.
    """

    intercept: float
    tables: tuple[EffectTable, ...]
    scale: float = 1.0

    @property
    def size(self) -> int:
        """Number of effects in all tables."""
        return sum(len(table.effects) for table in self.tables)

    @property
    def values(self) -> Floats:
        """The effects of all tables, one table after the other, [size]."""
        return np.concatenate([np.zeros(0), *(table.effects for table in self.tables)])

    def logits(self, categories: Ints) -> Floats:
        """Click logits of rows of categories [rows, fields]."""
        total = np.full(len(categories), self.intercept)
        for table in self.tables:
            total += table.effects[table.cells(categories)]
        return total


def estimate_effects(
    categories: Ints,
    clicked: npt.NDArray[np.floating[Any]],
    sizes: Sequence[int],
    *,
    largest_combination: int,
    evidence: float,
    most_combinations: int = 32,
    unknown: Mapping[int, int] = MappingProxyType({}),
    ordered: Mapping[int, int] = MappingProxyType({}),
) -> Effects:
    """Estimates the additive model.

    Args:
        categories: Category numbers [rows, fields].
        clicked: 0 or 1, [rows]; both must occur.
        sizes: Number of values of each field.
        largest_combination: Combinations of fields whose sizes multiply to more than this are not tried.
        evidence: How unlikely by chance a combination must be to be taken: as a normal variable that lies so many
            standard deviations above its mean. Among many candidates it must be less likely still.
        most_combinations: At most so many are taken, the most evident.
        unknown: By field, the number of the category that its unknown values share, where it has one.
        ordered: By field, how many of its numbers, from 0 on, stand in an order, such as a quantity's buckets.
    """
    fit = _Fit(categories, np.asarray(clicked, np.float64), np.zeros(len(clicked)), ordered)
    for column, size in enumerate(sizes):
        fit.add((column,), (size,), _START_DEVIATION, unknown.get(column))
    fit.run()
    many = [column for column, size in enumerate(sizes) if size >= _MANY_VALUES and column not in ordered]
    if fit.add_evident_counts(many):
        fit.run()
    pairs = [pair for pair in combinations(range(len(sizes)), 2) if _size(pair, sizes) <= largest_combination]
    taken = fit.add_evident(pairs, sizes, evidence, most_combinations)
    if taken:
        fit.run()
        # Only triples that build on a pair: of all triples, too many would seem evident by chance.
        triples = {tuple(sorted({*pair, third})) for pair in taken for third in range(len(sizes)) if third not in pair}
        small = sorted(triple for triple in triples if _size(triple, sizes) <= largest_combination)
        if fit.add_evident(small, sizes, evidence, most_combinations - len(taken)):
            fit.run()
    return fit.result(fit.scale())


def refit_effects(
    effects: Effects,
    categories: Ints,
    clicked: npt.NDArray[np.floating[Any]],
    offset: Floats,
    ordered: Mapping[int, int] = MappingProxyType({}),
) -> Effects:
    """Estimates the effects of the same tables anew, given what else moves each impression's logit, [rows], finite.

    They are multiplied by the same scale.
    """
    fit = _Fit(categories, np.asarray(clicked, np.float64), offset, ordered)
    for table in effects.tables:
        fit.add(table.fields, table.sizes, max(table.deviation, _SMALLEST_DEVIATION), table.unknown)
    fit.add_counts([table.fields[0] for table in effects.tables if table.counted])
    fit.run()
    return fit.result(effects.scale)


def _size(fields: Sequence[int], sizes: Sequence[int]) -> int:
    return int(np.prod([sizes[column] for column in fields], dtype=np.int64))


def _bucket_of_count(counts: Ints) -> npt.NDArray[np.int64]:
    """Counts below 4 each for itself, then two buckets an octave."""
    octaves = np.floor(2 * np.log2(np.maximum(counts, 1))).astype(np.int64)
    return np.where(counts < 4, counts, octaves)


def _discoveries(likely: Sequence[float], candidates: int) -> int:
    """How many of the least likely by chance, in order, are discoveries, by their false discovery rate."""
    rank = np.arange(1, len(likely) + 1)
    return int(rank[np.asarray(likely) <= _FALSE_DISCOVERIES * rank / max(candidates, 1)].max(initial=0))


def _sum_by(cells: Ints, values: Floats, count: int = 0) -> Floats:
    return np.asarray(np.bincount(cells, values, count), np.float64)


def click_chance(logits: Floats) -> tuple[Floats, Floats]:
    """The click probability p of each logit, and p (1 - p), what an impression tells of it, above 0 however sure."""
    # In place: a fit spends most of its time here, and the rows are many.
    odds = np.abs(logits)
    np.minimum(odds, _LARGEST_LOGIT, out=odds)
    np.exp(np.negative(odds, out=odds), out=odds)
    of_one = 1 + odds
    smaller = np.divide(odds, of_one, out=odds)
    weight = np.divide(smaller, of_one, out=of_one)
    chance = np.subtract(1, smaller)
    np.copyto(chance, smaller, where=logits <= 0)
    return chance, weight


def ascent(gradient: Floats, curvature: Floats) -> Floats:
    """A step that never lowers a log likelihood of the logistic model, with a normal prior or without, elementwise.

    That likelihood's curvature grows by the factor exp(d) at most over a step of d logits, so the gain of a step is at
    least gradient d - curvature (exp(d) - 1 - d); this step maximises that. Near the maximum it is Newton's.
    """
    newton = gradient / curvature
    return np.asarray(np.sign(newton) * np.log1p(np.abs(newton)))


def _mean_step(logits: Floats, clicked: Floats) -> float:
    """A step of the intercept towards predictions whose mean is that of the clicks."""
    chance, weight = click_chance(logits)
    residual: Floats = clicked - chance
    return float(ascent(residual.sum(keepdims=True), weight.sum(keepdims=True))[0])


@dataclass
class _Term:
    """A table as it is fitted.

    Attributes:
        table: Its effects so far.
        cells: Each impression's position in them, int32 [rows].
        part_of: Where each value of another table stands in this one, whose effects are a part of that one's; None for
            a table of its own.
        is_mean: Whether its effects are what that one's are drawn towards.
    """

    table: EffectTable
    cells: npt.NDArray[np.int32]
    part_of: tuple[_Term, npt.NDArray[np.int64]] | None = None
    is_mean: bool = False


class _Fit:
    """Fits tables one after the other, each by an ascent step for all of its effects at once.

    With the deviations as they are, no step lowers the penalised likelihood.
    """

    def __init__(self, categories: Ints, clicked: Floats, offset: Floats, ordered: Mapping[int, int]) -> None:
        self._categories = categories
        self._ordered = ordered
        self._clicked = clicked
        rate = float(clicked.mean())
        self._intercept = float(np.log(rate / (1 - rate)) - offset.mean())
        self._offset = offset
        self._logits = self._intercept + offset
        self._terms: list[_Term] = []
        self._columns: dict[int, npt.NDArray[np.int32]] = {}

    def add(
        self,
        fields: tuple[int, ...],
        sizes: tuple[int, ...],
        deviation: float,
        unknown: int | None = None,
    ) -> None:
        table = EffectTable(fields, sizes, deviation, np.zeros(int(np.prod(sizes, dtype=np.int64))), unknown)
        term = _Term(table, self._cells(table))
        self._terms.append(term)
        ordered = self._ordered.get(fields[0], 0) if len(fields) == 1 else 0
        for neighbours in _NEIGHBOURS:
            if neighbours < ordered:
                values = np.arange(sizes[0])
                # Values beyond those in order, such as the missing one, share nothing.
                places = np.where(values < ordered, values // neighbours, values - ordered + -(-ordered // neighbours))
                size = int(places[-1]) + 1
                shared = EffectTable(fields, (size,), _START_DEVIATION_OF_NEIGHBOURS, np.zeros(size))
                self._terms.append(_Term(shared, places[term.cells].astype(np.int32), (term, places)))

    def add_counts(self, fields: Sequence[int]) -> None:
        """Adds what values that occur equally often share, of fields that have a table."""
        for term in [term for term in self._terms if term.part_of is None]:
            if len(term.table.fields) == 1 and term.table.fields[0] in fields:
                term.table = replace(term.table, counted=True)
                self._terms.append(self._counts(term))

    def add_evident_counts(self, fields: Sequence[int]) -> bool:
        """Adds them for those of the fields whose clicks show them; says whether there are any."""
        chance, weight = click_chance(self._logits)
        residual = self._clicked - chance
        likely: dict[int, float] = {}
        for term in [term for term in self._terms if term.table.fields in {(column,) for column in fields}]:
            values = len(term.table.effects)
            counts = self._counts(term)
            # What the impressions of one value tell, they tell of that value first.
            told = _sum_by(term.cells, weight, values)
            share = (1 / (1 + told * term.table.deviation**2))[term.cells]
            information, score = _sum_by(counts.cells, weight * share), _sum_by(counts.cells, residual)
            excess = float((score**2 - information).sum())
            if excess > 0:
                likely[term.table.fields[0]] = _by_chance(excess, information)
        found = sorted(likely, key=lambda column: likely[column])
        evident = _discoveries([likely[column] for column in found], len(fields))
        self.add_counts(found[:evident])
        return evident > 0

    def _counts(self, term: _Term) -> _Term:
        """The table of a field's values by how many impressions have them: for an impression, how many others."""
        counts = np.bincount(term.cells, minlength=len(term.table.effects))
        if term.table.unknown is not None:
            # The values of its impressions are rare, each for itself.
            counts[term.table.unknown] = 0
        places = _bucket_of_count(counts)
        size = int(places.max()) + 1
        shared = EffectTable(term.table.fields, (size,), _START_DEVIATION_OF_COUNTS, np.zeros(size))
        others = _bucket_of_count(np.maximum(counts - 1, 0))
        return _Term(shared, others[term.cells].astype(np.int32), (term, places), is_mean=True)

    def _cells(self, table: EffectTable) -> npt.NDArray[np.int32]:
        cells = np.zeros(len(self._clicked), np.int32)
        for column, stride in zip(table.fields, table.strides, strict=True):
            if column not in self._columns:
                self._columns[column] = np.ascontiguousarray(self._categories[:, column], np.int32)
            if len(table.fields) == 1:
                return self._columns[column]
            cells += self._columns[column] * np.int32(stride)
        return cells

    def run(self) -> None:
        """Steps until nothing moves any more, or for so many cycles."""
        for _ in range(_MOST_CYCLES):
            before = self._logits.copy()
            change = 0.0
            for term in self._terms:
                if term.table.deviation >= _SMALLEST_DEVIATION:
                    deviation = term.table.deviation
                    term.table = self._step(term.table, term.cells)
                    change = max(change, abs(term.table.deviation / deviation - 1))
            shift = _mean_step(self._logits, self._clicked)
            self._intercept += shift
            self._logits += shift
            if np.abs(self._logits - before).max() < _STILL and change < _STILL:
                break

    def _step(self, table: EffectTable, cells: npt.NDArray[np.int32]) -> EffectTable:
        precision = 1 / table.deviations**2
        chance, weight = click_chance(self._logits)
        score = _sum_by(cells, self._clicked - chance, len(table.effects))
        information = _sum_by(cells, weight, len(table.effects))
        effects = table.effects + ascent(score - table.effects * precision, information + precision)
        self._logits += (effects - table.effects).take(cells)
        seen = information > 0
        if table.unknown is not None:
            seen[table.unknown] = False
        if not seen.any():
            return replace(table, effects=effects)
        told = float((information / (information + precision))[seen].sum())
        deviation = float(np.sqrt((effects[seen] ** 2).sum() / told))
        within = (table.deviation / _LARGEST_CHANGE, min(table.deviation * _LARGEST_CHANGE, _LARGEST_DEVIATION))
        return replace(table, effects=effects, deviation=float(np.clip(deviation, *within)))

    def add_evident(
        self, candidates: Sequence[tuple[int, ...]], sizes: Sequence[int], evidence: float, most: int
    ) -> list[tuple[int, ...]]:
        """Adds a table for the combinations that show effects which the tables so far do not explain."""
        chance, weight = click_chance(self._logits)
        residual = self._clicked - chance
        found: list[tuple[float, tuple[int, ...], float]] = []
        for fields in self._promising(candidates):
            table = EffectTable(fields, tuple(sizes[column] for column in fields), 0.0, np.zeros(0))
            cells = self._cells(table)
            information, score = _sum_by(cells, weight), _sum_by(cells, residual)
            excess = float((score**2 - information).sum())
            if excess > 0:
                likely = _by_chance(excess, information)
                found.append((likely, fields, float(np.sqrt(excess / (information**2).sum()))))
        found.sort()
        last = _discoveries([likely for likely, _, _ in found], len(candidates))
        bound = float(special.ndtr(-evidence))
        taken = [(fields, deviation) for likely, fields, deviation in found[: min(last, most)] if likely <= bound]
        for fields, deviation in taken:
            self.add(fields, tuple(sizes[column] for column in fields), min(deviation, 1.0))
        return [fields for fields, _ in taken]

    def _promising(self, candidates: Sequence[tuple[int, ...]]) -> Sequence[tuple[int, ...]]:
        """As many as there is time to test: those of the columns whose values differ the most."""
        most = max(1, _MOST_TESTED // len(self._clicked))
        if len(candidates) <= most:
            return candidates
        differ = np.zeros(self._categories.shape[1])
        for term in self._terms:
            if len(term.table.fields) == 1:
                differ[term.table.fields[0]] = np.hypot(differ[term.table.fields[0]], term.table.deviation)
        return sorted(candidates, key=lambda fields: -sum(differ[column] for column in fields))[:most]

    def result(self, scale: float) -> Effects:
        """The effects multiplied by `scale`, and the intercept that goes with them."""
        intercept = self._intercept - self._optimism(scale)
        parts: dict[int, list[_Term]] = {}
        for term in self._terms:
            if term.part_of is not None:
                parts.setdefault(id(term.part_of[0]), []).append(term)
        tables = []
        for term in self._terms:
            if term.part_of is None:
                effects, variance, means = scale * term.table.effects, term.table.deviation**2, None
                for part in parts.get(id(term), ()):
                    assert part.part_of is not None
                    shared = scale * part.table.effects[part.part_of[1]]
                    effects = effects + shared
                    if part.is_mean:
                        means = shared
                    else:
                        variance += part.table.deviation**2
                deviation = min(scale * variance**0.5, _LARGEST_DEVIATION)
                tables.append(replace(term.table, effects=effects, deviation=deviation, means=means))
        return Effects(intercept, tuple(tables), scale)

    def scale(self) -> float:
        """What to multiply the effects by, from 0 to 1, so that they predict unseen impressions best.

        By few clicks and many tables, effects can do harm though none of the tables shows it. They are fitted to most
        of the impressions and judged by the others, in turn.
        """
        clicks = float(self._clicked.sum())
        few = _FOLDS <= min(clicks, len(self._clicked) - clicks) <= _MOST_CLICKS_TO_SCALE
        if not few or len(self._clicked) > _MOST_ROWS_TO_SCALE:
            return 1.0
        # Of clicks and of others, each part gets as many.
        order = np.lexsort((np.random.default_rng(0).random(len(self._clicked)), self._clicked))
        part = np.zeros(len(order), np.int64)
        part[order] = np.arange(len(order)) % _FOLDS
        constant, effects = np.zeros(len(order)), np.zeros(len(order))
        # NumPy lets other threads work while it does.
        with ThreadPoolExecutor(min(_FOLDS, len(os.sched_getaffinity(0)))) as pool:
            fits = list(pool.map(lambda number: self._fitted_to(part != number).result(1.0), range(_FOLDS)))
        for number, found in enumerate(fits):
            judged = part == number
            constant[judged] = found.intercept + self._offset[judged]
            effects[judged] = found.logits(self._categories[judged]) - found.intercept
        return best_scale(constant, effects, self._clicked)

    def _fitted_to(self, rows: npt.NDArray[np.bool_]) -> _Fit:
        """The same tables fitted to some of the impressions."""
        fit = _Fit(self._categories[rows], self._clicked[rows], self._offset[rows], self._ordered)
        for term in self._terms:
            if term.part_of is None:
                fit.add(term.table.fields, term.table.sizes, term.table.deviation, term.table.unknown)
        fit.add_counts([term.table.fields[0] for term in self._terms if term.is_mean])
        fit.run()
        return fit

    def _optimism(self, scale: float) -> float:
        """How far, in logits, the mean prediction of unseen impressions would lie above the click rate.

        An effect is fitted to the very clicks that it is then averaged over. Leaving each impression out of its own
        prediction, by its leverage, shows what the mean would be without.
        """
        chance, weight = click_chance(self._logits)
        pull = np.zeros(len(weight))
        for term in self._terms:
            if term.table.deviation >= _SMALLEST_DEVIATION:
                information = _sum_by(term.cells, weight, len(term.table.effects))
                pull += (1 / (information + 1 / term.table.deviation**2))[term.cells]
        leverage = np.minimum(pull * weight, 0.5)
        constant = self._intercept + self._offset
        without = self._logits - constant - pull * (self._clicked - chance) / (1 - leverage)
        return -_mean_shift(constant + scale * without, self._clicked)


def _mean_shift(logits: Floats, clicked: Floats) -> float:
    """What to add to logits so that the mean prediction is that of the clicks."""
    total = 0.0
    for _ in range(_MOST_CYCLES):
        step = _mean_step(logits + total, clicked)
        total += step
        if abs(step) < _STILL / 10:
            break
    return total


def best_scale(constant: Floats, effects: Floats, clicked: Floats) -> float:
    """The factor c from 0 to 1 with which the logits d + constant + c effects, at the best d, make clicks likeliest."""
    low, high = 0.0, 1.0

    def slope(scale: float) -> float:
        logits = constant + scale * effects
        residual = clicked - click_chance(logits + _mean_shift(logits, clicked))[0]
        return float((residual * effects).sum())

    if slope(high) >= 0:
        return high
    if slope(low) <= 0:
        return low
    # The likelihood is concave in both.
    while high - low > _STILL:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return low


def _by_chance(excess: float, information: Floats) -> float:
    """How likely the squared scores of cells without effects exceed what they should be, in sum, by so much.

    Squared scores of few expected clicks are skewed: a gamma distribution with the moments of a Poisson's.
    """
    variance = float((2 * information**2 + information).sum())
    skew = float((8 * information**3 + 22 * information**2 + information).sum()) / variance**1.5
    shape = 4 / skew**2
    return float(special.gammaincc(shape, shape + excess / variance**0.5 * shape**0.5))
