"""The feature table: what it accepts, and what it says of a column."""

from __future__ import annotations

import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adclick.schema.feature_table import Categorical, Ignored, MultiValued, RawType, parse_feature_table
from tests.names import column_names

COLUMNS: dict[str, dict[str, object]] = {
    "impression_id": {"role": "identifier"},
    "shown_at": {"role": "timestamp", "source": "Shown At"},
    "device": {"role": "categorical"},
    "interests": {"role": "multi_valued"},
    "price": {"role": "numeric"},
    "width": {"role": "bucketised"},
    "image": {"role": "image"},
    "note": {"role": "ignored"},
    "clicked": {"role": "label"},
}


def test_columns_are_found_by_role() -> None:
    features = parse_feature_table(COLUMNS)
    assert features.identifier_name == "impression_id"
    assert features.timestamp_name == "shown_at"
    assert features.source_of("shown_at") == "Shown At"
    assert features.label_name == "clicked"
    assert features.image_name == "image"
    assert features.image_status_name == "image_status"
    assert list(features.of(Categorical)) == ["device", "interests"]
    assert list(features.of(MultiValued)) == ["interests"]


def test_a_request_carries_what_the_model_reads_in_declared_order() -> None:
    features = parse_feature_table(COLUMNS)
    assert list(features.model_inputs) == ["shown_at", "device", "interests", "price", "width", "image"]
    assert list(features.used) == [name for name in COLUMNS if name != "note"]


@pytest.mark.parametrize(
    ("name", "raw_type"),
    [
        ("impression_id", RawType.STRING),
        ("shown_at", RawType.INT),
        ("device", RawType.STRING),
        ("interests", RawType.STRING),
        ("price", RawType.FLOAT),
        ("width", RawType.FLOAT),
        ("image", RawType.STRING),
        ("clicked", RawType.INT),
    ],
)
def test_raw_types(name: str, raw_type: RawType) -> None:
    assert parse_feature_table(COLUMNS).raw_type(name) is raw_type


def test_the_json_text_is_the_same_table() -> None:
    features = parse_feature_table(COLUMNS)
    assert parse_feature_table(features.model_dump_json()) == features


def test_without_image_only_the_image_is_dropped() -> None:
    features = parse_feature_table(COLUMNS).without_image()
    assert features.image_name is None
    assert isinstance(features.root["image"], Ignored)
    assert list(features.model_inputs) == ["shown_at", "device", "interests", "price", "width"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clicked": {"role": "ignored"}}, "exactly one column must have the role label"),
        ({"device": {"role": "label"}}, "exactly one column must have the role label"),
        ({"device": {"role": "image"}}, "at most one column may have the role image"),
        ({"device": {"role": "timestamp"}}, "at most one column may have the role timestamp"),
        ({"device": {"role": "categorical", "source": "price"}}, "two columns read the same CSV column"),
        ({" ": {"role": "categorical"}}, "a column has an empty name"),
        ({"device": {"role": "categorial"}}, "categorial"),
        ({"device": {"role": "categorical", "bucket": 3}}, "Extra inputs"),
        ({"device": {"role": "multi_valued", "max_values": 1}}, "max_values\n.*greater than or equal to 2"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parse_feature_table({**COLUMNS, **change})


def test_a_table_without_a_feature_is_refused() -> None:
    with pytest.raises(ValidationError, match="no column is a feature"):
        parse_feature_table({"clicked": {"role": "label"}, "id": {"role": "identifier"}})


@given(st.lists(column_names(), min_size=1, max_size=30, unique=True))
def test_any_names_make_a_table_in_which_no_two_names_meet(names: list[str]) -> None:
    roles: dict[str, dict[str, object]] = {name: {"role": "categorical"} for name in names}
    roles |= {"the label": {"role": "label"}, "image": {"role": "image"}}
    features = parse_feature_table(roles)
    assert parse_feature_table(features.model_dump_json()) == features

    tensors = list(features.tensor_names.values())
    assert all(name.isidentifier() and name.isascii() and len(name) < 210 for name in tensors)
    assert not any(keyword.iskeyword(name) for name in tensors)
    assert len({name.lower() for name in [*tensors, features.creative_embedding_name]}) == len(roles) + 1
    slices = [*roles, features.image_status_name, *(features.known_name(name) for name in names)]
    assert len(set(slices)) == len(slices)


def test_plain_names_are_kept_and_what_is_derived_keeps_its_own() -> None:
    features = parse_feature_table({**COLUMNS, "class": {"role": "ignored"}})
    assert features.tensor_names == {**{name: name for name in COLUMNS}, "class": f"column_{len(COLUMNS) + 1}"}
    derived = (features.image_status_name, features.known_name("device"), features.creative_embedding_name)
    assert derived == ("image_status", "device_known", "creative_embedding")
