"""What explanations promise of an exported model: completeness, the served logit, and fair shares of what is joint."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from adclick.models.attribution import Attribution
from adclick.models.effects import Effects, EffectTable
from adclick.models.features import InputLayout
from adclick.models.network import ClickNetwork
from adclick.models.requests import requests_from_examples
from adclick.models.settings import NetworkSettings, TrainingSettings
from adclick.schema.feature_table import parse_feature_table
from adclick.schema.roles.inputs import CategoryField
from adclick.serving.model_server.servable import Servable
from tests.models.tiny_model import FEATURES, TinyModel

SIZES = {"a": 3, "b": 4, "c": 2}


def test_contributions_are_complete_and_of_the_served_logit(tiny_model: TinyModel) -> None:
    servable = Servable.load(tiny_model.folder)
    rows = requests_from_examples(tiny_model.examples, FEATURES)
    types = {name: spec.dtype for name, spec in servable.signatures["explain"].inputs.items()}
    columns: dict[str, np.ndarray[Any, Any]] = {
        name: np.array([row[name] for row in rows], object if kind == tf.string else kind.as_numpy_dtype)
        for name, kind in types.items()
    }
    found = servable.run("explain", columns)
    served = servable.run("serving_default", columns)["click_probability"]
    np.testing.assert_allclose(1 / (1 + np.exp(-found["logit"])), served, atol=1e-6)
    total = found["logit"] - found["baseline_logit"]
    assert np.ptp(total) > 1
    np.testing.assert_allclose(found["contributions"].sum(axis=1), total, atol=1e-3)
    assert len(set(found["baseline_logit"].tolist())) == 1
    # Clicks depend on the ad: no other column explains more of the differences.
    assert found["columns"][0][found["contributions"].std(axis=0).argmax()] == b"ad"


@pytest.fixture(scope="module")
def network() -> ClickNetwork:
    """Effects alone: of each of three fields, of a pair and of all three."""
    random = np.random.default_rng(5)

    def table(*fields: int) -> EffectTable:
        sizes = tuple(list(SIZES.values())[field] for field in fields)
        return EffectTable(fields, sizes, 1.0, random.normal(size=int(np.prod(sizes))))

    layout = InputLayout(tuple(CategoryField(name, 1, size, size - 1) for name, size in SIZES.items()), (), False)
    effects = Effects(-2.0, tuple(table(*fields) for fields in ((0,), (1,), (2,), (0, 2), (0, 1, 2))))
    settings = NetworkSettings(embedding_dimension=2, hidden_units=(), cross_layers=0)
    network = ClickNetwork(layout, settings, TrainingSettings(), 16, 100, effects)
    network.linear.kernel.assign(tf.zeros_like(network.linear.kernel))
    return network


def test_joint_effects_are_shared_by_shapley_values(network: ClickNetwork) -> None:
    columns: dict[str, object] = {name: {"role": "categorical"} for name in SIZES}
    attribution = Attribution(network, parse_feature_table({**columns, "clicked": {"role": "label"}}))
    baseline = [size - 1 for size in SIZES.values()]

    def logit(values: list[int]) -> float:
        return float(network.score(tf.constant([values]), None, tf.zeros([1, 0]), None)[0])

    def shapley(values: list[int], field: int) -> float:
        """By the definition: the mean over all orders of what the field adds when its turn comes."""
        total = 0.0
        for taken in product((False, True), repeat=2):
            others = [place for place in range(3) if place != field]
            chosen = [place for place, one in zip(others, taken, strict=True) if one]
            before = [values[place] if place in chosen else baseline[place] for place in range(3)]
            after = [values[place] if place == field else before[place] for place in range(3)]
            total += (logit(after) - logit(before)) * (1 / 6 if len(chosen) == 1 else 1 / 3)
        return total

    for values in ([0, 0, 0], [1, 2, 0], [0, 3, 1]):
        found = attribution.explain(tf.constant([values]), None, tf.zeros([1, 0]), None)
        expected = [shapley(values, field) for field in range(3)]
        np.testing.assert_allclose(found.contributions[0], expected, atol=1e-5)
        assert float(found.logit[0]) == pytest.approx(logit(values), abs=1e-5)
        assert float(found.baseline[0]) == pytest.approx(logit(baseline), abs=1e-5)
