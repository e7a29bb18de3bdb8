"""Whether a column's numbers are quantities or codes, by which reading predicts held-out clicks better.

Each reading predicts the clicks of rows that it was not fitted to. As codes, every value has a click rate of its own,
drawn towards the mean of all. As a quantity, the log-odds of a click are a cubic of the number, or, where the config
gives the number quantile buckets, every bucket has a rate of its own. The two are compared row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from adclick.models.outliers import usual_range

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: So many standard errors must stand between the readings before the clicks decide, not the form of the numbers.
DECISIVE = 2.0
#: With fewer clicks, or fewer rows without one, nothing is compared.
LEAST_CLICKS = 50
_FOLDS = 4
#: How many rows of the mean a value's own rows are set against; the best of these is chosen on the rows fitted to.
_PRIOR_ROWS = (3.0, 30.0, 300.0, 3_000.0)
_LEAST_RATE = 1e-7


@dataclass(frozen=True)
class ColumnEvidence:
    """How much better one reading predicts than the other.

    Attributes:
        as_quantity: Mean log loss per row where the numbers are read as a quantity, in nats.
        as_codes: The same where they are read as codes.
        standard_errors: Their difference in its standard errors; positive where codes predict better.
        gain: By how many standard errors the better reading predicts better than the mean click rate does.
    """

    as_quantity: float
    as_codes: float
    standard_errors: float
    gain: float

    @property
    def is_decisive(self) -> bool:
        """Whether the readings differ, and the better one is more than the less misleading of two."""
        return min(abs(self.standard_errors), self.gain) >= DECISIVE

    @property
    def favours_codes(self) -> bool:
        return self.standard_errors > 0

    def describe(self) -> str:
        """The comparison in words that end a sentence such as `codes rather than quantities`."""
        better, worse = sorted((self.as_quantity, self.as_codes))
        return (
            f"they predict held-out clicks better so (log loss {better:.5f} against {worse:.5f}, "
            f"{abs(self.standard_errors):.1f} standard errors)"
        )


def weigh(numbers: Floats, clicked: Integers, *, take_logarithm: bool, buckets: int) -> ColumnEvidence | None:
    """Compares the two readings of a column.

    Args:
        numbers: The column's numbers [rows], finite.
        clicked: 0 or 1 [rows].
        take_logarithm: Whether the quantity's logarithm is taken.
        buckets: How many quantile buckets the quantity is given; 0 for none.

    Returns:
        None where there are too few clicks to compare by.
    """
    clicks = int(clicked.sum())
    if min(clicks, len(clicked) - clicks) < LEAST_CLICKS:
        return None
    codes = np.unique(numbers, return_inverse=True)[1].astype(np.int64)
    fold = np.random.default_rng(0).permutation(len(numbers)) % _FOLDS
    quantity_losses, code_losses, mean_losses = (np.zeros(len(numbers)) for _ in range(3))
    for part in range(_FOLDS):
        judged = fold == part
        learned = ~judged
        mean = np.full(int(judged.sum()), clicked[learned].mean())
        mean_losses[judged] = _losses(clicked[judged], mean)
        code_losses[judged] = _losses(clicked[judged], _rates(codes, clicked, learned)[judged])
        if buckets > 1:
            edges = np.unique(np.quantile(numbers[learned], np.linspace(0, 1, buckets + 1)[1:-1]))
            rates = _rates(np.searchsorted(edges, numbers, side="right").astype(np.int64), clicked, learned)
        else:
            rates = _curve(numbers, clicked, learned, take_logarithm)
        quantity_losses[judged] = _losses(clicked[judged], rates[judged])
    better = code_losses if code_losses.mean() < quantity_losses.mean() else quantity_losses
    return ColumnEvidence(
        as_quantity=float(quantity_losses.mean()),
        as_codes=float(code_losses.mean()),
        standard_errors=_in_standard_errors(quantity_losses - code_losses),
        gain=_in_standard_errors(mean_losses - better),
    )


def _in_standard_errors(differences: Floats) -> float:
    """The mean of the rows' differences in its standard errors; 0 where they do not differ."""
    error = float(differences.std(ddof=1)) / len(differences) ** 0.5
    return float(differences.mean()) / error if error > 0 else 0.0


def _rates(groups: Integers, clicked: Integers, learned: npt.NDArray[np.bool_]) -> Floats:
    """Each row's click rate by its group, drawn towards the mean as far as the fitted rows themselves say is best."""
    size = int(groups.max()) + 1
    clicks = np.bincount(groups[learned], clicked[learned], size)
    rows = np.bincount(groups[learned], minlength=size)
    mean = float(clicked[learned].mean())
    own_group, own_click = groups[learned], clicked[learned]

    def loss_of_rows_left_out(prior: float) -> float:
        others = rows[own_group] - 1 + prior
        return float(_losses(own_click, (clicks[own_group] - own_click + mean * prior) / others).mean())

    prior = min(_PRIOR_ROWS, key=loss_of_rows_left_out)
    return np.asarray(((clicks + mean * prior) / (rows + prior))[groups])


def _curve(numbers: Floats, clicked: Integers, learned: npt.NDArray[np.bool_], take_logarithm: bool) -> Floats:
    """Each row's click rate by a cubic of its number."""
    values = np.sign(numbers) * np.log1p(np.abs(numbers)) if take_logarithm else numbers
    # As the model reads outliers.
    values = np.clip(values, *usual_range(np.sort(values)))
    deviation = float(values[learned].std())
    # Beyond three deviations a cubic runs away.
    scaled = np.clip((values - values[learned].mean()) / (deviation or 1.0), -3, 3)
    powers = np.stack([scaled, scaled**2 / 3, scaled**3 / 9], axis=1)
    model = LogisticRegression(C=1.0).fit(powers[learned], clicked[learned])
    return np.asarray(model.predict_proba(powers)[:, 1])


def _losses(clicked: Integers, rates: Floats) -> Floats:
    rates = np.clip(rates, _LEAST_RATE, 1 - _LEAST_RATE)
    return -np.where(clicked == 1, np.log(rates), np.log1p(-rates))


def readable_numbers(cells: Sequence[str], values: frozenset[str]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The numbers of the cells that are among `values` and finite, and which of the cells those are, [cells]."""
    by_text = {text: float(text) for text in values}
    numbers = np.array([by_text.get(cell, np.nan) for cell in cells])
    usable = np.isfinite(numbers)
    return numbers[usable], usable
