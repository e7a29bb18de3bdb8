"""What a version keeps of its held-out rows: read as it was written, and refused where it is cut off."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from adclick.models.held_out import QUANTILE_SHARES, Estimate, HeldOut, place_among
from adclick.models.metrics.counts import FOLDS, count, quantiles


def test_it_is_read_as_it_was_written() -> None:
    held_out = HeldOut(
        span=202610,
        metrics={"auc": Estimate.defined(0.7, 0.6, 0.8), "recall": Estimate.defined(float("nan"), None, None)},
        quantiles=(0.1, 0.2),
        audience=({"ad": "a", "topics": ["x"], "price": 0.1, "shown_at": 1_790_812_800},),
        replaced_values=1,
    )
    assert HeldOut.from_bytes(held_out.to_bytes()) == held_out
    assert held_out.metrics["recall"].value is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", HeldOut().to_bytes()[:-9], gzip.compress(b"[]"), gzip.compress(bytes(70_000_000))],
    ids=["empty", "no gzip", "cut off", "a list", "a bomb"],
)
def test_what_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        HeldOut.from_bytes(content)


@pytest.mark.parametrize("rate", [1.0, 0.25])
def test_quantiles_are_those_of_the_weighted_predictions(rate: float) -> None:
    random = np.random.default_rng(5)
    prediction = 1 / (1 + np.exp(-random.normal(-3, 1, 40_000)))
    clicked = random.random(len(prediction)) < prediction
    weight = np.where(clicked, 1.0, 1 / rate)
    counted = count(prediction, clicked, weight, random.integers(0, FOLDS, len(prediction)))
    found = np.array(quantiles(counted, QUANTILE_SHARES))
    order = np.argsort(prediction)
    shares = np.cumsum(weight[order]) / weight.sum()
    true = prediction[order][np.searchsorted(shares, QUANTILE_SHARES[1:-1])]
    assert (np.diff(found) > 0).all()
    assert found[1:-1] == pytest.approx(true, rel=0.01)
    # The place of each is where it was taken from.
    assert [place_among(found.tolist(), value) for value in found] == pytest.approx(QUANTILE_SHARES)


def test_the_place_of_a_probability() -> None:
    quantiles = [0.1, 0.2, 0.4]
    assert place_among(quantiles, 0.05) == 0
    assert place_among(quantiles, 0.9) == 1
    assert place_among(quantiles, 0.3) == pytest.approx(0.75)
    # A model that says the same of all.
    assert place_among([0.1] * 5, 0.1) == 0.5
    assert place_among([], 0.1) is None
