"""Effects of category values and of their combinations, each shrunk as far as its own clicks warrant.

The wide half of the network: a sum of effects, one for each value of each field, and for each combination of values of
the few pairs and triples of fields that show effects of their own. How far the values of a table differ, its deviation,
is estimated from the data (empirical Bayes), so that a field that does not matter adds no noise and an id with three
impressions is believed only a little. The network starts from these estimates and keeps their priors.

Sources: expectation maximisation for variance components with the posterior of each effect taken as normal (Breslow &
Clayton 1993, "Approximate inference in generalized linear mixed models"); the test for a combination is the score test
of a variance component (Lin 1997, "Variance component testing in generalised linear models with random effects").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]

_START_DEVIATION = 0.2
#: Deviations below this, in logits, are taken for none.
_SMALLEST_DEVIATION = 0.003
#: What unknown values share is a mean of many, which varies less than one value does: by this much. The few rare values
#: of the training data say little of the new ones that come later.
_UNKNOWN_SHARE = 0.25
_CYCLES = 12
_CYCLES_WITH_COMBINATIONS = 8


@dataclass(frozen=True)
class EffectTable:
    """The effects of the values of one field, or of the combinations of values of several.

    Attributes:
        fields: Positions of the fields.
        sizes: Number of values of each.
        deviation: Prior standard deviation of the effects, in logits.
        effects: float64 [product of sizes], in row-major order of the fields' values.
        unknown: The position of the effect that all unknown values share; None if there is none.
    """

    fields: tuple[int, ...]
    sizes: tuple[int, ...]
    deviation: float
    effects: Floats
    unknown: int | None = None

    @property
    def deviations(self) -> Floats:
        """The prior standard deviation of each effect, in logits."""
        every = np.full(int(np.prod(self.sizes, dtype=np.int64)), self.deviation)
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
    """

    intercept: float
    tables: tuple[EffectTable, ...]

    @property
    def size(self) -> int:
        """Number of effects in all tables."""
        return sum(len(table.effects) for table in self.tables)

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
) -> Effects:
    """Estimates the additive model.

    Args:
        categories: Category numbers [rows, fields].
        clicked: 0 or 1, [rows]; both must occur.
        sizes: Number of values of each field.
        largest_combination: Combinations of fields whose sizes multiply to more than this are not tried.
        evidence: How many standard deviations of its score test a combination must show to be taken.
        most_combinations: At most so many are taken, the most evident.
        unknown: By field, the number of the category that its unknown values share, where it has one.
    """
    fit = _Fit(categories, np.asarray(clicked, np.float64), np.zeros(len(clicked)))
    for field, size in enumerate(sizes):
        fit.add((field,), (size,), _START_DEVIATION, unknown.get(field))
    fit.run(_CYCLES)
    pairs = [pair for pair in combinations(range(len(sizes)), 2) if _cells(pair, sizes) <= largest_combination]
    taken = fit.add_evident(pairs, sizes, evidence, most_combinations)
    if taken:
        fit.run(_CYCLES_WITH_COMBINATIONS)
        # Only triples that build on a pair: of all triples, too many would seem evident by chance.
        triples = {tuple(sorted({*pair, field})) for pair in taken for field in range(len(sizes)) if field not in pair}
        small = sorted(triple for triple in triples if _cells(triple, sizes) <= largest_combination)
        if fit.add_evident(small, sizes, evidence, most_combinations - len(taken)):
            fit.run(_CYCLES_WITH_COMBINATIONS)
    return fit.result()


def refit_effects(
    effects: Effects, categories: Ints, clicked: npt.NDArray[np.floating[Any]], offset: Floats
) -> Effects:
    """Estimates the effects of the same tables anew, given what else moves each impression's logit, [rows]."""
    fit = _Fit(categories, np.asarray(clicked, np.float64), offset)
    for table in effects.tables:
        fit.add(table.fields, table.sizes, max(table.deviation, _SMALLEST_DEVIATION), table.unknown)
    fit.run(_CYCLES)
    return fit.result()


def _cells(fields: Sequence[int], sizes: Sequence[int]) -> int:
    return int(np.prod([sizes[field] for field in fields], dtype=np.int64))


def _sigmoid(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logits)))


class _Fit:
    """Fits tables one after the other, each by a Newton step for all of its effects at once."""

    def __init__(self, categories: Ints, clicked: Floats, offset: Floats) -> None:
        self._categories = categories
        self._clicked = clicked
        rate = float(clicked.mean())
        self._intercept = float(np.log(rate / (1 - rate)) - offset.mean())
        self._logits = self._intercept + offset
        self._tables: list[EffectTable] = []
        self._cells: list[npt.NDArray[np.int64]] = []

    def add(
        self, fields: tuple[int, ...], sizes: tuple[int, ...], deviation: float, unknown: int | None = None
    ) -> None:
        table = EffectTable(fields, sizes, deviation, np.zeros(int(np.prod(sizes, dtype=np.int64))), unknown)
        self._tables.append(table)
        self._cells.append(table.cells(self._categories))

    def run(self, cycles: int) -> None:
        for _ in range(cycles):
            for index, table in enumerate(self._tables):
                if table.deviation >= _SMALLEST_DEVIATION:
                    self._tables[index] = self._step(table, self._cells[index])
            probability = _sigmoid(self._logits)
            shift = float((self._clicked - probability).sum() / (probability * (1 - probability)).sum())
            self._intercept += shift
            self._logits += shift

    def _step(self, table: EffectTable, cells: npt.NDArray[np.int64]) -> EffectTable:
        probability = _sigmoid(self._logits)
        precision = 1 / table.deviations**2
        score = np.bincount(cells, self._clicked - probability, len(table.effects))
        information = np.bincount(cells, probability * (1 - probability), len(table.effects))
        effects = table.effects + (score - table.effects * precision) / (information + precision)
        self._logits += (effects - table.effects)[cells]
        seen = information > 0
        if table.unknown is not None:
            seen[table.unknown] = False
        if not seen.any():
            return replace(table, effects=effects)
        variance = float((effects[seen] ** 2 + 1 / (information + precision)[seen]).mean())
        return replace(table, effects=effects, deviation=variance**0.5)

    def add_evident(
        self, candidates: Sequence[tuple[int, ...]], sizes: Sequence[int], evidence: float, most: int
    ) -> list[tuple[int, ...]]:
        """Adds a table for the combinations that show effects which the tables so far do not explain."""
        probability = _sigmoid(self._logits)
        residual, weight = self._clicked - probability, probability * (1 - probability)
        found: list[tuple[float, tuple[int, ...], float]] = []
        for fields in candidates:
            chosen = tuple(sizes[field] for field in fields)
            table = EffectTable(fields, chosen, 0.0, np.zeros(0))
            cells = table.cells(self._categories)
            information = np.bincount(cells, weight)
            score = np.bincount(cells, residual)
            seen = information > 0
            information, score = information[seen], score[seen]
            excess = float((score**2 / information).sum()) - len(information)
            # Of a cell with few expected clicks, the squared score varies more than that of a normal variable.
            deviations = excess / float(np.sqrt((2 + 1 / information).sum()))
            if deviations >= evidence:
                found.append((deviations, fields, (excess / float(information.sum())) ** 0.5))
        found.sort(reverse=True)
        for _, fields, deviation in found[:most]:
            self.add(fields, tuple(sizes[field] for field in fields), deviation)
        return [fields for _, fields, _ in found[:most]]

    def result(self) -> Effects:
        return Effects(self._intercept - self._optimism(), tuple(self._tables))

    def _optimism(self) -> float:
        """How far, in logits, the mean prediction of unseen impressions would lie above the click rate.

        An effect is fitted to the very clicks that it is then averaged over. Leaving each impression out of its own
        prediction, by its leverage, shows what the mean would be without.
        """
        probability = _sigmoid(self._logits)
        weight = probability * (1 - probability)
        pull = np.zeros(len(probability))
        for table, cells in zip(self._tables, self._cells, strict=True):
            if table.deviation >= _SMALLEST_DEVIATION:
                information = np.bincount(cells, weight, len(table.effects))
                pull += (1 / (information + 1 / table.deviations**2))[cells]
        leverage = np.minimum(pull * weight, 0.5)
        without = _sigmoid(self._logits - pull * (self._clicked - probability) / (1 - leverage))
        return float((without.mean() - self._clicked.mean()) / weight.mean())
