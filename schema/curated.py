"""The curated schema: what a month's examples must look like before anything is trained on them.

A person reviews it once; `ExampleValidator` holds every month's statistics against it, and Transform derives from it
how examples are parsed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import (
    Categorical,
    FeatureTable,
    Image,
    Label,
    RawType,
)

#: Where the examples of ingestion stand; `validate_statistics` needs it by name.
TRAINING: Final = "TRAINING"
#: Where prediction requests stand: without label, identifier and ingestion status.
SERVING: Final = "SERVING"
IMAGE_STATUSES: Final = ("ok", "missing", "corrupt", "oversized", "none")

#: The share of rows that must hold a value of the domain: a few new values do not stop a run, a renamed one does.
MIN_DOMAIN_MASS: Final = 0.9
#: The most by which the share of one value may move between months, or between training and serving. Campaigns end and
#: begin, so shares of ten or twenty points come and go; thirty points on one value is a changed export.
INFINITY_NORM_THRESHOLD: Final = 0.3
#: For quantities, in bits from 0 (same distribution) to 1 (disjoint); 0.2 is about a shift by one standard deviation.
JENSEN_SHANNON_THRESHOLD: Final = 0.2

#: A feature with this annotation tag stops the run when it drifts beyond its threshold; others are reported.
DRIFT_STOPS_RUN: Final = "drift_stops_run"

_TYPES: Final = MappingProxyType(
    {RawType.STRING: schema_pb2.BYTES, RawType.FLOAT: schema_pb2.FLOAT, RawType.INT: schema_pb2.INT}
)
_HEADER: Final = """\
# The curated schema: what every month's examples must look like. A month that breaks it is refused before training.
# Review it: `presence` says which share of rows must hold a value, `string_domain` which values are expected (at least
# `min_domain_mass` of the rows must hold one of them), `drift_comparator` how far a column may move from the months of
# the window before, and `skew_comparator` how far prediction requests may stand from the training data. Drift is
# reported; to let it stop the run, give the feature `annotation { tag: "drift_stops_run" }`.
"""


def build_schema(
    features: FeatureTable,
    *,
    domains: Mapping[str, Sequence[str]] = MappingProxyType({}),
    presence: Mapping[str, float] = MappingProxyType({}),
) -> schema_pb2.Schema:
    """Builds the schema of the raw examples that ingestion writes.

    Columns with a domain also get drift and skew comparators; those without one, such as ids, come and go by nature.

    Args:
        features: The feature table.
        domains: By categorical column, the values expected of it.
        presence: By column, the least share of rows, 0 to 1, that must hold a value. Without it one row must. The label
            and the identifier are always required.

    Returns:
        A schema with the environments TRAINING and SERVING.

    Raises:
        ConfigError: A domain or a presence is given for a column that cannot have one.
    """
    for name in domains:
        if not isinstance(features.used.get(name), Categorical):
            raise ConfigError(f"a domain is given for {name!r}, which is not a categorical column that is read")
    for name, share in presence.items():
        if name not in features.used:
            raise ConfigError(f"a presence is given for {name!r}, which is not a column that is read")
        if not 0 <= share <= 1:
            raise ConfigError(f"the presence of {name!r} is {share}, which is not a share between 0 and 1")

    schema = schema_pb2.Schema(default_environment=[TRAINING, SERVING])
    for name, column in features.used.items():
        feature = schema.feature.add(name=name, type=_TYPES[features.raw_type(name)])
        feature.presence.min_count = 1
        if name in presence:
            feature.presence.min_fraction = presence[name]
        if column.is_list:
            feature.value_count.min = 1
        else:
            feature.value_count.max = 1
        if column.is_of_log:
            feature.presence.min_fraction = 1.0
            feature.not_in_environment.append(SERVING)
        if isinstance(column, Label):
            feature.int_domain.CopyFrom(schema_pb2.IntDomain(min=0, max=1))
        if name in domains:
            feature.string_domain.value.extend(domains[name])
            feature.distribution_constraints.min_domain_mass = MIN_DOMAIN_MASS
            feature.drift_comparator.infinity_norm.threshold = INFINITY_NORM_THRESHOLD
            feature.skew_comparator.infinity_norm.threshold = INFINITY_NORM_THRESHOLD
        if column.is_quantity:
            feature.drift_comparator.jensen_shannon_divergence.threshold = JENSEN_SHANNON_THRESHOLD
            feature.skew_comparator.jensen_shannon_divergence.threshold = JENSEN_SHANNON_THRESHOLD
        if isinstance(column, Image):
            status = schema.feature.add(name=features.image_status_name, type=schema_pb2.BYTES)
            status.presence.min_count = 1
            status.presence.min_fraction = 1.0
            status.value_count.max = 1
            status.string_domain.value.extend(IMAGE_STATUSES)
            status.drift_comparator.infinity_norm.threshold = INFINITY_NORM_THRESHOLD
            status.not_in_environment.append(SERVING)
    return schema


def load_schema(path: str) -> schema_pb2.Schema:
    """Reads a schema written as text proto.

    Raises:
        ConfigError: The file is missing, cannot be read, or is not a schema; names the file and the line.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise missing_schema(path) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return parse_schema(content, path)


def missing_schema(path: str) -> ConfigError:
    """What to say where there is no schema."""
    return ConfigError(f"{path}: no such file", "Write one with `adclick init DATA --output DIR`.")


def parse_schema(content: bytes, path: str) -> schema_pb2.Schema:
    """Parses a schema in text form, whose path errors name.

    Raises:
        ConfigError: It is not a schema; names the file and the line.
    """
    schema = schema_pb2.Schema()
    try:
        text_format.Parse(content.decode(), schema)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except text_format.ParseError as error:
        line = error.GetLine()
        what = str(error).removeprefix(f"{line}:{error.GetColumn()} : ")
        raise ConfigError(
            f"{path}: {f'line {line}: ' if line else ''}not a schema: {what}",
            "Correct the line, or write the file anew with `adclick init DATA --output DIR --force`.",
        ) from None
    return schema


def write_schema(schema: schema_pb2.Schema, path: str) -> None:
    """Writes a schema as text proto under a comment that explains it; the file appears whole or not at all."""
    text = _HEADER + str(text_format.MessageToString(schema, as_utf8=True))
    temporary = Path(f"{path}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_schema(schema: schema_pb2.Schema, features: FeatureTable) -> None:
    """Checks that a schema describes exactly the examples of a feature table.

    Raises:
        ConfigError: A column has no entry, one of another type, or one that Transform cannot parse where a value is
            missing; or an entry belongs to no column. Names each.
    """
    expected = {name: _TYPES[features.raw_type(name)] for name in features.used}
    if features.image_name is not None:
        expected[features.image_status_name] = schema_pb2.BYTES
    problems = []
    names = [feature.name for feature in schema.feature]
    problems += [f"{name}: the schema describes it twice" for name in sorted({n for n in names if names.count(n) > 1})]
    problems += [
        f"{name}: the config reads it, the schema does not describe it" for name in expected if name not in names
    ]
    for feature in schema.feature:
        name = feature.name
        if name not in expected:
            problems.append(f"{name}: the schema describes it, the config does not read it")
        elif feature.type != expected[name]:
            found, wanted = (schema_pb2.FeatureType.Name(kind) for kind in (feature.type, expected[name]))
            problems.append(f"{name}: its type in the schema is {found}, its role in the config needs {wanted}")
        elif feature.HasField("shape"):
            problems.append(f"{name}: its `shape` in the schema forbids missing values; remove it")
    if set(schema.default_environment) != {TRAINING, SERVING}:
        problems.append(f"default_environment: must be {TRAINING} and {SERVING}")
    if problems:
        raise ConfigError(
            "the schema does not fit the features of the config\n" + "\n".join(problems),
            "Edit the schema file or the config's features so that they agree, or write the schema anew with "
            "`adclick init DATA --output DIR --force`.",
        )
