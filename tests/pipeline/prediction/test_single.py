"""What `adclick predict` makes of JSON and of CSV rows."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from PIL import Image

from adclick.components.ad_example_gen.settings import CsvSettings
from adclick.pipeline.prediction.single import instance_from_csv, instance_from_json
from adclick.schema.errors import ConfigError, DataRefused
from adclick.schema.feature_table import parse_feature_table

FEATURES = parse_feature_table(
    {
        "id": {"role": "identifier"},
        "at": {"role": "timestamp"},
        "ad": {"role": "categorical", "source": "Ad Name"},
        "price": {"role": "numeric", "missing": ["-1"]},
        "topics": {"role": "multi_valued"},
        "image": {"role": "image"},
        "clicked": {"role": "label"},
    }
)
HEADER = "id,at,Ad Name,price,topics,image,clicked\n"


def test_json_columns_are_typed_and_the_rest_is_missing() -> None:
    instance = instance_from_json('{"at": "2026-10-01T00:00:00", "ad": 7, "price": "2.5", "topics": "a"}', FEATURES)
    assert instance == {"at": 1_790_812_800, "ad": "7", "price": 2.5, "topics": ["a"], "image": ""}
    empty = instance_from_json("{}", FEATURES)
    assert math.isnan(empty.pop("price")) and empty == {"at": -1, "ad": "", "topics": [""], "image": ""}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "not valid JSON"),
        ("[]", "object"),
        ('{"colour": 1}', "colour"),
        ('{"price": "dear"}', "price"),
        ('{"at": "now"}', "at"),
    ],
)
def test_wrong_json_is_named(text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        instance_from_json(text, FEATURES)


def test_a_csv_row_is_read_as_ingestion_reads_it(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    file = tmp_path / "a.csv"
    lines = ["i1,2026-10-01T00:00:00,shoes,-1,x|y,red.png,0", "too,few", "i2,2026-10-01T00:00:01,,3,,gone.png,1"]
    file.write_text(HEADER + "\n".join(lines) + "\n")
    first = instance_from_csv(str(file), 1, FEATURES, CsvSettings())
    assert first["image"] == (tmp_path / "red.png").read_bytes()
    assert (first["ad"], first["topics"], first["at"]) == ("shoes", ["x", "y"], 1_790_812_800)
    assert math.isnan(first["price"])
    second = instance_from_csv(str(file), 2, FEATURES, CsvSettings())
    assert (second["ad"], second["price"], second["topics"], second["image"]) == ("", 3.0, [""], "")


def test_a_row_or_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(HEADER)
    with pytest.raises(ConfigError, match="there is no row 1"):
        instance_from_csv(str(file), 1, FEATURES, CsvSettings())
    with pytest.raises(ConfigError, match="no such file"):
        instance_from_csv(str(tmp_path / "b.csv"), 1, FEATURES, CsvSettings())
    file.write_text("a,b\n1,2\n")
    with pytest.raises(DataRefused, match="Ad Name"):
        instance_from_csv(str(file), 1, FEATURES, CsvSettings())
