"""Effects of words, each shrunk as far as the clicks warrant.

How far the effects of a text's words, pairs and parts differ, their deviation, is estimated from the clicks as that of
other effects is in `models.effects` (MacKay 1992, "Bayesian interpolation"): a text that does not matter adds nothing.
Impressions of one text differ in nothing that a text could tell, so that the work grows with distinct texts.
The trace that the estimate needs is that of random vectors (Hutchinson 1990, "A stochastic estimator of the trace of
the influence matrix"), always the same ones.

Many words are fitted to few clicks: what they are worth together is judged on impressions that they were not fitted to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg

from adclick.models.effects import best_scale, click_chance

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]

_START_DEVIATION = 0.2
#: Deviations below this, in logits, are taken for none.
_SMALLEST_DEVIATION = 0.01
_LARGEST_DEVIATION = 5.0
#: A deviation changes by this factor at most in a cycle.
_LARGEST_CHANGE = 2.0
_MOST_CYCLES = 20
#: A fit has converged where in a cycle the deviation changes by no larger a share.
_STILL = 0.02
_PROBES = 8
_TOLERANCE, _ROUGHLY = 1e-4, 1e-2
_MOST_STEPS = 100
_FOLDS = 4
_MOST_ROWS_TO_SCALE = 1_000_000


@dataclass(frozen=True)
class TextEstimate:
    """The effects of a field of texts.

    Attributes:
        weights: float64 [buckets], 0 for words that were not seen.
        deviation: Their prior standard deviation, in logits; 0 where texts say nothing.
        scale: What they were multiplied by, from 0 to 1, for what they predict of other impressions.
    """

    weights: Floats
    deviation: float
    scale: float = 1.0


def estimate_text_effects(
    texts: sparse.csr_matrix, positions: Ints, clicked: npt.NDArray[np.floating[Any]], offset: Floats
) -> TextEstimate:
    """Estimates the effects of words.

    Args:
        texts: By text, how much of each bucket it has [texts, buckets].
        positions: The text of each impression [rows].
        clicked: 0 or 1, [rows]; both must occur.
        offset: What else moves each impression's logit, [rows], finite.
    """
    target = np.asarray(clicked, np.float64)
    # Texts of no impression, and words of no text, say nothing and cost time.
    shown, where = np.unique(positions, return_inverse=True)
    some = texts[shown]
    used = np.unique(some.indices)
    weights = np.zeros(texts.shape[1])
    if not len(used):
        return TextEstimate(weights, 0.0)
    compact = some[:, used].tocsr()
    found, deviation = _fit(compact, where, target, offset)
    if not deviation:
        return TextEstimate(weights, 0.0)
    scale = _scale(compact, where, target, offset, deviation) if len(target) <= _MOST_ROWS_TO_SCALE else 1.0
    weights[used] = scale * found
    return TextEstimate(weights, deviation, scale)


def _fit(
    texts: sparse.csr_matrix, positions: Ints, clicked: Floats, offset: Floats, deviation: float | None = None
) -> tuple[Floats, float]:
    """The likeliest effects, and their deviation: the given one, or the one under which the clicks are likeliest."""
    count, buckets = texts.shape
    probes = np.random.default_rng(0).choice([-1.0, 1.0], (_PROBES, buckets))
    weights, shift = np.zeros(buckets), 0.0
    current = deviation or _START_DEVIATION
    for _ in range(_MOST_CYCLES):
        before = weights
        of_text = texts @ weights
        chance, weight = click_chance(offset + shift + of_text[positions])
        shift += float((clicked - chance).sum() / weight.sum())
        information: Floats = np.asarray(np.bincount(positions, weight, count), np.float64)
        score = np.bincount(positions, clicked - chance, count)
        precision = 1 / current**2
        weights = _solve(texts, information, precision, texts.T @ (score + information * of_text), _TOLERANCE)
        if deviation is None:
            told = np.mean(
                [
                    probe @ (texts.T @ (information * (texts @ _solve(texts, information, precision, probe, _ROUGHLY))))
                    for probe in probes
                ]
            )
            estimate = float(np.sqrt((weights @ weights) / max(float(told), 1e-9)))
            within = (current / _LARGEST_CHANGE, min(current * _LARGEST_CHANGE, _LARGEST_DEVIATION))
            last, current = current, float(np.clip(estimate, *within))
            if current < _SMALLEST_DEVIATION:
                return np.zeros(buckets), 0.0
            if abs(current / last - 1) < _STILL:
                break
        elif np.abs(texts @ (weights - before)).max() < _STILL / 10:
            break
    return weights, current


def _solve(texts: sparse.csr_matrix, information: Floats, precision: float, right: Floats, tolerance: float) -> Floats:
    """The x at which (texts' information texts + precision) x is what it should be."""
    size = texts.shape[1]
    operator = LinearOperator((size, size), lambda x: texts.T @ (information * (texts @ x)) + precision * x)
    found, _ = cg(operator, right, rtol=tolerance, maxiter=_MOST_STEPS)
    return np.asarray(found, np.float64)


def _scale(texts: sparse.csr_matrix, positions: Ints, clicked: Floats, offset: Floats, deviation: float) -> float:
    """What to multiply the effects by so that they predict impressions best that they were not fitted to."""
    clicks = float(clicked.sum())
    if min(clicks, len(clicked) - clicks) < _FOLDS:
        return 0.0
    # Of clicks and of others, each part gets as many.
    order = np.lexsort((np.random.default_rng(0).random(len(clicked)), clicked))
    part = np.zeros(len(order), np.int64)
    part[order] = np.arange(len(order)) % _FOLDS
    effects = np.zeros(len(order))
    for number in range(_FOLDS):
        judged = part == number
        weights, _ = _fit(texts, positions[~judged], clicked[~judged], offset[~judged], deviation)
        effects[judged] = (texts @ weights)[positions[judged]]
    return best_scale(offset, effects, clicked)
