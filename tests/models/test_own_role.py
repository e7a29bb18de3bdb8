"""A role that stands in one file, this one, from a drop's cells to an explanation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from pydantic import Field

from adclick.components.ad_example_gen import reasons
from adclick.components.ad_example_gen.columns import as_example_column, typed_column
from adclick.models.analysis import Analyzer
from adclick.models.attribution import Attribution
from adclick.models.effects import Effects, EffectTable
from adclick.models.network import ClickNetwork
from adclick.models.preprocessing import ColumnTransform, derive_parameters, write_vocabularies
from adclick.models.requests import parse_examples, requests_from_examples
from adclick.models.settings import NetworkSettings, TrainingSettings
from adclick.schema.curated import build_schema
from adclick.schema.feature_table import Column, FeatureTable
from adclick.schema.roles.cells import NumberCells
from adclick.schema.roles.inputs import ColumnInputs, bucket_name, missing_name, quantile_field
from adclick.schema.roles.role import RawType, Role, Scaling
from tests.models.tiny_model import as_example


class Currency(Role):
    """An amount of money as people write it."""

    raw_type = RawType.FLOAT
    is_input = True
    is_quantity = True

    role: Literal["currency"]

    @property
    def cells(self) -> NumberCells:
        return NumberCells(rewrites=((r"[$€,\s]", ""),))

    def network_inputs(self, tensor: str, vocabulary_size: Callable[[str], int]) -> ColumnInputs:
        return ColumnInputs(
            categories=(quantile_field(bucket_name(tensor), self.quantile_buckets),),
            numbers=(tensor, missing_name(tensor)),
        )

    @property
    def quantity_scaling(self) -> Scaling:
        return "log"

    @property
    def quantile_buckets(self) -> int:
        return 4


class OwnTable(FeatureTable):
    """A feature table that knows the role, as the line in `Column` would have it."""

    root: dict[str, Annotated[Column | Currency, Field(discriminator="role")]]  # type: ignore[assignment]


FEATURES = OwnTable.model_validate({"clicked": {"role": "label"}, "bid": {"role": "currency"}})
CELLS = [b"$1,234.50", "0.99 €".encode(), b"12", b"", b"$3", b"free", b"40", b"$500"]


def test_cells_are_read_by_the_role() -> None:
    typed = typed_column(FEATURES.root["bid"], pa.array(CELLS, pa.binary()), ("",), 64, required=False)
    assert typed.values.to_pylist() == [1234.5, pytest.approx(0.99), 12.0, None, 3.0, None, 40.0, 500.0]
    assert [(bad.reason, np.flatnonzero(bad.rows).tolist()) for bad in typed.bad] == [(reasons.UNPARSABLE_NUMBER, [5])]


def test_its_statistics_are_those_of_a_quantity() -> None:
    (feature,) = [feature for feature in build_schema(FEATURES).feature if feature.name == "bid"]
    assert feature.drift_comparator.HasField("jensen_shannon_divergence")


def test_it_is_transformed_scored_and_explained(tmp_path: Path) -> None:
    bids = typed_column(FEATURES.root["bid"], pa.array(CELLS, pa.binary()), ("",), 64, required=False).values
    analyzer = Analyzer(FEATURES)
    analyzer.add(pa.RecordBatch.from_arrays([as_example_column(bids)], ["bid"]))
    vocabularies = str(tmp_path / "vocabularies")
    parameters = derive_parameters(
        analyzer.result(), FEATURES, write_vocabularies(analyzer.result(), FEATURES, vocabularies)
    )
    transform = ColumnTransform(FEATURES, parameters, vocabularies)
    examples = [as_example({"clicked": [0], **bid}) for bid in ({"bid": [1234.5]}, {"bid": [0.99]}, {})]
    rows = requests_from_examples(examples, FEATURES)
    assert rows[0] == {"bid": 1234.5} and np.isnan(rows[2]["bid"])
    transformed = transform(parse_examples(tf.constant(examples), FEATURES))
    assert transformed.categories.numpy().tolist() == [[3], [0], [4]]
    numbers = transformed.numbers.numpy()
    assert numbers[0, 0] > numbers[1, 0] and numbers[:, 1].tolist() == [0, 0, 1]

    table = EffectTable((0,), (5,), 1.0, np.linspace(-1, 1, 5))
    settings = NetworkSettings(embedding_dimension=2, hidden_units=(), cross_layers=0)
    network = ClickNetwork(transform.layout, settings, TrainingSettings(), 16, 100, Effects(-2.0, (table,)))
    explained = Attribution(network, FEATURES).explain(transformed.categories, None, transformed.numbers, None)
    apart = explained.logit - explained.baseline
    assert explained.contributions.shape == (3, 1)
    np.testing.assert_allclose(explained.contributions[:, 0], apart, atol=1e-4)
    assert apart[0] != apart[1]
