"""What a model goes by, of models whose ways are known and of an exported one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from adclick.models.explanation import model_importance, permutation_importance
from tests.models.tiny_model import FEATURES, TinyModel

Array = np.ndarray[Any, Any]
ROWS = 4_000


def impressions() -> tuple[dict[str, Array], Array]:
    """Impressions whose clicks depend on `strong` and, less, on `weak`; `idle` says nothing."""
    random = np.random.default_rng(3)
    columns = {name: random.normal(size=ROWS) for name in ("strong", "weak", "idle")}
    labels = (random.random(ROWS) < by_truth(columns)).astype(np.int64)
    return columns, labels


def by_truth(columns: Mapping[str, Array]) -> Array:
    return 1 / (1 + np.exp(1 - 2 * columns["strong"] - 0.5 * columns["weak"]))


def test_a_feature_matters_as_far_as_predictions_need_it() -> None:
    columns, labels = impressions()
    found = permutation_importance(by_truth, columns, labels, ["idle", "weak", "strong"], repeats=4, seed=1)
    assert [importance.name for importance in found] == ["strong", "weak", "idle"]
    strong, weak, idle = found
    assert strong.increase_in_log_loss > 0.3 > weak.increase_in_log_loss > 0.02
    assert strong.increase_in_log_loss > 10 * strong.deviation > 0
    assert idle.increase_in_log_loss == idle.deviation == 0, "the model does not read it"


def test_the_same_seed_gives_the_same_answer_and_leaves_the_columns() -> None:
    columns, labels = impressions()
    before = {name: values.copy() for name, values in columns.items()}
    first, again, other = (
        permutation_importance(by_truth, columns, labels, list(columns), repeats=2, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other
    for name, values in columns.items():
        np.testing.assert_array_equal(values, before[name])


def test_a_row_of_weight_two_counts_as_two_rows() -> None:
    columns, labels = impressions()
    weights = np.where(labels == 1, 1.0, 2.0)
    twice = np.repeat(np.arange(ROWS), weights.astype(int))
    weighted = permutation_importance(by_truth, columns, labels, ["strong"], repeats=10, weights=weights)
    repeated = permutation_importance(
        by_truth, {name: values[twice] for name, values in columns.items()}, labels[twice], ["strong"], repeats=10
    )
    plain = permutation_importance(by_truth, columns, labels, ["strong"], repeats=10)
    assert weighted[0].increase_in_log_loss == pytest.approx(repeated[0].increase_in_log_loss, rel=0.05)
    assert weighted[0].increase_in_log_loss != pytest.approx(plain[0].increase_in_log_loss, rel=0.05)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"features": ["gone"]}, "gone"), ({"repeats": 1}, "1 repeats"), ({"labels": np.zeros(0)}, "no impressions")],
)
def test_what_cannot_be_measured_is_named(change: dict[str, Any], named: str) -> None:
    columns, labels = impressions()
    with pytest.raises(ValueError, match=named):
        permutation_importance(**{"predict": by_truth, "columns": columns, "labels": labels, "features": [], **change})


def test_an_exported_model_goes_by_what_moved_its_clicks(tiny_model: TinyModel) -> None:
    found = model_importance(str(tiny_model.folder), [tiny_model.files[0]], rows=600, repeats=3)
    assert {importance.name for importance in found} == set(FEATURES.model_inputs)
    by_name = {importance.name: importance for importance in found}
    # Clicks depend on the ad alone; its image goes with it.
    assert found[0].name in ("ad", "image")
    assert by_name["ad"].increase_in_log_loss > 3 * by_name["ad"].deviation
    assert found == model_importance(str(tiny_model.folder), [tiny_model.files[0]], rows=600, repeats=3)


def test_no_example_is_named(tiny_model: TinyModel) -> None:
    with pytest.raises(ValueError, match="no impressions"):
        model_importance(str(tiny_model.folder), [])
