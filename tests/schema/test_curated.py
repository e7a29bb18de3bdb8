"""The curated schema, held against real statistics: good months pass, bad ones do not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tensorflow_transform.tf_metadata import schema_utils

from adclick.schema.curated import build_schema, check_schema, load_schema, write_schema
from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import FeatureTable, parse_feature_table

COLUMNS: dict[str, object] = {
    "impression_id": {"role": "identifier"},
    "shown_at": {"role": "timestamp"},
    "device_type": {"role": "categorical"},
    "ad_id": {"role": "categorical"},
    "price": {"role": "numeric"},
    "interests": {"role": "multi_valued"},
    "image": {"role": "image"},
    "note": {"role": "ignored"},
    "clicked": {"role": "label"},
}
DEVICES = ("desktop", "mobile", "tablet")
ROWS = 1_000


@pytest.fixture(scope="module")
def features() -> FeatureTable:
    return parse_feature_table(COLUMNS)


@pytest.fixture(scope="module")
def schema(features: FeatureTable) -> schema_pb2.Schema:
    return build_schema(
        features, domains={"device_type": DEVICES}, presence={"device_type": 0.9, "price": 0.5, "shown_at": 0.99}
    )


def month(
    *,
    devices: Sequence[str] = DEVICES,
    device_present: float = 0.98,
    price_shift: float = 0.0,
    labels: Sequence[int] = (0, 1),
    image_status: str = "ok",
) -> pa.RecordBatch:
    """A month's examples as statistics see them: every column a list array, missing values null."""
    random = np.random.default_rng(7)

    def sometimes(values: Sequence[Any], share: float, value_type: pa.DataType) -> pa.Array:
        present = random.random(ROWS) < share
        cells = [[value] if kept else None for value, kept in zip(values, present, strict=True)]
        return pa.array(cells, pa.list_(value_type))

    return pa.RecordBatch.from_pydict(
        {
            "impression_id": pa.array([[str(row).encode()] for row in range(ROWS)]),
            "shown_at": pa.array([[1_790_000_000 + row] for row in range(ROWS)]),
            "device_type": sometimes(
                [devices[number].encode() for number in random.integers(0, len(devices), ROWS)],
                device_present,
                pa.binary(),
            ),
            "ad_id": pa.array([[f"ad-{number}".encode()] for number in random.zipf(1.3, ROWS)]),
            "price": sometimes(random.normal(price_shift, 1, ROWS).astype(np.float32), 0.8, pa.float32()),
            "interests": pa.array(
                [[b"sport", b"news"][:count] or None for count in random.integers(0, 3, ROWS)], pa.list_(pa.binary())
            ),
            "image": sometimes([b"a creative's key"] * ROWS, 0.5, pa.binary()),
            "image_status": pa.array([[image_status.encode()]] * ROWS),
            "clicked": pa.array([[int(label)] for label in random.choice(labels, ROWS)]),
        }
    )


def statistics(batch: pa.RecordBatch, schema: schema_pb2.Schema) -> statistics_pb2.DatasetFeatureStatisticsList:
    return stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions(schema=schema))


def anomalies(schema: schema_pb2.Schema, batch: pa.RecordBatch, previous: pa.RecordBatch | None = None) -> set[str]:
    found = tfdv.validate_statistics(
        statistics(batch, schema),
        schema,
        environment="TRAINING",
        previous_statistics=None if previous is None else statistics(previous, schema),
    )
    return set(found.anomaly_info)


def test_a_good_month_passes(schema: schema_pb2.Schema) -> None:
    assert anomalies(schema, month()) == set()


def test_a_few_new_values_pass(schema: schema_pb2.Schema) -> None:
    assert anomalies(schema, month(devices=[*DEVICES * 7, "television"])) == set()


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"devices": ["mobile", "mobile", "television", "television", "television"]}, "device_type"),
        ({"device_present": 0.0}, "device_type"),
        ({"device_present": 0.5}, "device_type"),
        ({"labels": [0, 1, 2]}, "clicked"),
        ({"image_status": "lost"}, "image_status"),
    ],
)
def test_a_bad_month_is_refused(schema: schema_pb2.Schema, change: dict[str, Any], column: str) -> None:
    assert anomalies(schema, month(**change)) == {column}


def test_a_missing_column_is_refused(schema: schema_pb2.Schema) -> None:
    batch = month()
    kept = [name for name in batch.schema.names if name != "ad_id"]
    assert anomalies(schema, pa.RecordBatch.from_arrays([batch[name] for name in kept], names=kept)) == {"ad_id"}


@pytest.mark.parametrize(
    ("change", "drifted"),
    [
        ({}, set()),
        ({"price_shift": 0.5}, set()),
        ({"price_shift": 2.0}, {"price"}),
        ({"devices": ["mobile"] * 9 + ["tablet"]}, {"device_type"}),
        ({"image_status": "missing"}, {"image_status"}),
    ],
)
def test_drift_from_the_month_before(schema: schema_pb2.Schema, change: dict[str, Any], drifted: set[str]) -> None:
    assert anomalies(schema, month(**change), previous=month()) == drifted


def test_requests_need_neither_label_nor_identifier(schema: schema_pb2.Schema) -> None:
    batch = month()
    kept = [name for name in batch.schema.names if name not in ("clicked", "impression_id", "image_status")]
    requests = pa.RecordBatch.from_arrays([batch[name] for name in kept], names=kept)
    found = tfdv.validate_statistics(statistics(requests, schema), schema, environment="SERVING")
    assert set(found.anomaly_info) == set()


def test_every_column_may_be_missing_when_examples_are_parsed(
    schema: schema_pb2.Schema, features: FeatureTable
) -> None:
    spec = schema_utils.schema_as_feature_spec(schema).feature_spec
    assert set(spec) == {*features.used, "image_status"}
    assert all(isinstance(entry, tf.io.VarLenFeature) for entry in spec.values())
    assert spec["price"].dtype == tf.float32
    assert spec["shown_at"].dtype == tf.int64
    assert spec["interests"].dtype == tf.string


def test_a_written_schema_is_read_back(schema: schema_pb2.Schema, features: FeatureTable, tmp_path: Path) -> None:
    path = tmp_path / "schema.pbtxt"
    write_schema(schema, str(path))
    assert load_schema(str(path)) == schema
    check_schema(load_schema(str(path)), features)
    assert path.read_text().startswith("#")
    assert [file.name for file in tmp_path.iterdir()] == ["schema.pbtxt"]


def test_a_misspelt_line_is_named(schema: schema_pb2.Schema, tmp_path: Path) -> None:
    path = tmp_path / "schema.pbtxt"
    path.write_text('feature {\n  name: "clicked"\n  typ: INT\n}\n')
    with pytest.raises(ConfigError, match=r"schema\.pbtxt: line 3: .*typ"):
        load_schema(str(path))


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"schema\.pbtxt: no such file"):
        load_schema(str(tmp_path / "schema.pbtxt"))


def _rename(schema: schema_pb2.Schema) -> None:
    next(feature for feature in schema.feature if feature.name == "price").name = "prize"


def _retype(schema: schema_pb2.Schema) -> None:
    next(feature for feature in schema.feature if feature.name == "price").type = schema_pb2.BYTES


def _shape(schema: schema_pb2.Schema) -> None:
    next(feature for feature in schema.feature if feature.name == "price").shape.dim.add(size=1)


def _repeat(schema: schema_pb2.Schema) -> None:
    schema.feature.append(schema.feature[0])


def _forget_environment(schema: schema_pb2.Schema) -> None:
    del schema.default_environment[:]


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (_rename, ["price: the config reads it", "prize: the schema describes it"]),
        (_retype, ["price: its type in the schema is BYTES, its role in the config needs FLOAT"]),
        (_shape, ["price: its `shape`"]),
        (_repeat, ["impression_id: the schema describes it twice"]),
        (_forget_environment, ["default_environment"]),
    ],
)
def test_a_schema_that_does_not_fit_is_refused(
    schema: schema_pb2.Schema, features: FeatureTable, change: Any, messages: Sequence[str]
) -> None:
    changed = schema_pb2.Schema()
    changed.CopyFrom(schema)
    change(changed)
    with pytest.raises(ConfigError) as refused:
        check_schema(changed, features)
    assert all(message in refused.value.message for message in messages)
    assert refused.value.remedy


def test_domains_and_presences_must_be_of_columns_that_can_have_them(features: FeatureTable) -> None:
    with pytest.raises(ConfigError, match="price"):
        build_schema(features, domains={"price": ["1"]})
    with pytest.raises(ConfigError, match="note"):
        build_schema(features, presence={"note": 0.5})
    with pytest.raises(ConfigError, match=r"1\.5"):
        build_schema(features, presence={"price": 1.5})
