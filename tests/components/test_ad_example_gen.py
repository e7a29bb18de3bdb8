"""AdExampleGen: whole drops through the executor on Beam's local runner."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts

from adclick.components.ad_example_gen import reasons
from adclick.components.ad_example_gen.component import AdExampleGen
from adclick.components.ad_example_gen.creatives import read_creative
from adclick.components.ad_example_gen.drop_files import drop_fingerprint
from adclick.components.ad_example_gen.executor import AdExampleGenExecutor
from adclick.components.ad_example_gen.settings import CsvSettings, IngestionSettings, SplitSettings
from adclick.components.artifacts import Creatives, Quarantine
from adclick.components.example_files import creative_files, split_files
from adclick.components.splits import SPLITS
from adclick.models.creatives import Creative, read_creatives
from adclick.models.images import decode_and_resize
from adclick.schema.errors import DataRefused

BEAM_ARGUMENTS = ["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner", "--sdk_container_image=none"]
SIZE = 16
PLAIN = {
    "impression_id": {"role": "identifier"},
    "timestamp": {"role": "timestamp"},
    "site": {"role": "categorical"},
    "topics": {"role": "multi_valued"},
    "price": {"role": "numeric"},
    "clicked": {"role": "label"},
}
WITH_IMAGE = PLAIN | {"image": {"role": "image"}}
HEADER = ["impression_id", "timestamp", "site", "topics", "price", "clicked"]


@dataclass(frozen=True)
class Ingested:
    """What an ingestion gives."""

    artifacts: dict[str, list[Any]]
    counts: dict[str, Any]

    def examples(self, *splits: str) -> list[dict[str, Any]]:
        """Every example, as lists by feature name, empty where missing."""
        return [
            example
            for split in splits or SPLITS
            for file in split_files(self.artifacts["examples"], split)
            for example in read_examples(file)
        ]

    @property
    def creatives(self) -> list[Creative]:
        return list(read_creatives(creative_files(self.artifacts["creatives"])))

    @property
    def quarantined(self) -> list[dict[str, Any]]:
        files = sorted(Path(self.artifacts["quarantine"][0].uri).glob("quarantine-*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def read_examples(file: str) -> Iterator[dict[str, Any]]:
    compression = "GZIP" if file.endswith(".gz") else ""
    for record in tf.data.TFRecordDataset(file, compression).as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        yield {
            name: list(getattr(feature, feature.WhichOneof("kind")).value) if feature.WhichOneof("kind") else []
            for name, feature in features.items()
        }


def ingest(
    drop: Path,
    output: Path,
    features: Mapping[str, Any] = PLAIN,
    form: CsvSettings | None = None,
    split: SplitSettings | None = None,
    creative_store: Path | None = None,
    **ingestion: Any,
) -> Ingested:
    types = {"examples": standard_artifacts.Examples, "creatives": Creatives, "quarantine": Quarantine}
    outputs = {name: [kind()] for name, kind in types.items()}
    for name, (artifact,) in outputs.items():
        artifact.uri = str(output / name)
    settings = IngestionSettings.model_validate({"image_size": SIZE, **ingestion})
    AdExampleGenExecutor(BaseBeamExecutor.Context(beam_pipeline_args=list(BEAM_ARGUMENTS))).Do(
        {},
        outputs,
        {
            "drop_uri": str(drop),
            "span": 202610,
            "version": 1,
            "fingerprint": drop_fingerprint(str(drop)),
            "features": json.dumps(features),
            "csv": (form or CsvSettings()).model_dump_json(),
            "ingestion": settings.model_dump_json(),
            "split": (split or SplitSettings()).model_dump_json(),
            **({} if creative_store is None else {"creative_store": str(creative_store)}),
        },
    )
    found = Ingested(outputs, json.loads((output / "quarantine" / "ingestion.json").read_text()))
    counts = found.counts
    assert counts["rows_in"] == counts["rows_examples"] + counts["rows_quarantined"] + counts["rows_duplicate"]
    assert len(found.examples()) == counts["rows_examples"]
    assert Counter(row["reason"] for row in found.quarantined) == counts["quarantined_by_reason"]
    folders = {path.name for path in output.rglob("*") if path.is_dir()}
    assert folders == {"row_hashes", "examples", *(f"Split-{split}" for split in SPLITS), "creatives", "quarantine"}
    return found


def impression(number: int, **changes: str) -> list[str]:
    """A good row; its minute is its number."""
    stamp = f"2026-10-{1 + number // 1440:02d}T{number // 60 % 24:02d}:{number % 60:02d}:00"
    row = (
        dict(zip(HEADER, [f"i{number}", stamp, f"s{number % 7}", "a|b", "1.5", str(number % 2)], strict=True)) | changes
    )
    return list(row.values())


def as_csv(rows: Sequence[Sequence[str]], header: Sequence[str] | None = HEADER, **options: Any) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", **options)
    if header is not None:
        writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def identifiers(examples: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted(example["impression_id"][0].decode() for example in examples)


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    folder = tmp_path / "2026-10"
    folder.mkdir()
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


def test_values_reach_the_examples(drop: Path, output: Path) -> None:
    rows = [impression(number) for number in range(10)]
    rows[3] = impression(3, site='a "quoted", \n site', topics="x||y|", price="")
    rows[4] = impression(4, site="null", topics="", price=" 2 ")
    (drop / "a.csv").write_bytes(as_csv(rows))
    by_id = {example["impression_id"][0]: example for example in ingest(drop, output).examples()}
    assert by_id[b"i0"] == {
        "impression_id": [b"i0"],
        "timestamp": [1_790_812_800],
        "site": [b"s0"],
        "topics": [b"a", b"b"],
        "price": [1.5],
        "clicked": [0],
    }
    assert by_id[b"i3"]["site"] == [b'a "quoted", \n site']
    assert by_id[b"i3"]["topics"] == [b"x", b"y"]
    assert by_id[b"i3"]["price"] == []
    assert (by_id[b"i4"]["site"], by_id[b"i4"]["topics"], by_id[b"i4"]["price"]) == ([], [], [2.0])


def test_broken_drop(drop: Path, output: Path) -> None:
    good = [impression(number) for number in range(200)]
    lines = as_csv(good[:50]).split(b"\n")
    lines[5] = b"too,few"
    lines[6] = b"i5,2026-10-01T00:05:00,s,a,1.5,yes"
    lines[7] = b"i6,2026-10-01T00:06:00,s,a,1.5,"
    lines[8] = b"i7,2026-10-01T00:07:00,\xff\xfe,a,1.5,1"
    lines[9] = b"i8,2026-10-01T00:08:00,s,a,cheap,1"
    lines[10] = b"i9,yesterday,s,a,1.5,1"
    lines[11] = b",2026-10-01T00:10:00,s,a,1.5,1"
    lines[12] = b"i11,,s,a,1.5,1"
    lines[13] = b"i12,2026-10-01T00:12:00," + b"x" * 20_000 + b",a,1.5,1"
    lines[14] = b'i13,2026-10-01T00:13:00,"stray,a,1.5,1'
    lines[15] = b'i14,2026-10-01T00:14:00,"a"b,a,1.5,1'
    (drop / "broken.csv").write_bytes(b"\n".join(lines))
    (drop / "crlf_and_mark.csv").write_bytes(b"\xef\xbb\xbf" + as_csv(good[50:100]).replace(b"\n", b"\r\n"))
    (drop / "whole.csv.gz").write_bytes(gzip.compress(as_csv(good[100:150])))
    noise = np.random.default_rng(1).integers(0, 10**9, 50)  # incompressible, so that half the bytes is half the rows
    cut = gzip.compress(as_csv([impression(150 + n, site=f"{noise[n]:b}") for n in range(50)]))
    (drop / "truncated.csv.gz").write_bytes(cut[: len(cut) // 2])
    (drop / "again.tsv.csv").write_bytes(as_csv(good[60:70]))
    (drop / "empty.csv").write_bytes(b"")
    (drop / "only_header.csv").write_bytes(as_csv([]))

    found = ingest(drop, output)
    counts = found.counts
    every_reason = [
        reasons.WRONG_FIELD_COUNT,
        reasons.LABEL_NOT_0_OR_1,
        reasons.MISSING_LABEL,
        reasons.INVALID_UTF8,
        reasons.UNPARSABLE_NUMBER,
        reasons.UNPARSABLE_TIME,
        reasons.MISSING_IDENTIFIER,
        reasons.MISSING_TIMESTAMP,
        reasons.FIELD_TOO_LONG,
        reasons.UNTERMINATED_QUOTE,
        reasons.MALFORMED_QUOTE,
        reasons.TRUNCATED_FILE,
    ]
    assert counts["quarantined_by_reason"] == dict.fromkeys(every_reason, 1)
    assert counts["rows_duplicate"] == 10
    assert counts["empty_files"] == 1
    kept = identifiers(found.examples())
    expected = {f"i{number}" for number in range(150)} - {f"i{number}" for number in range(4, 15)}
    assert len(kept) == len(set(kept))
    assert expected <= set(kept)
    from_truncated = {int(name[1:]) for name in set(kept) - expected}
    assert from_truncated == set(range(150, 150 + len(from_truncated)))
    rows = {row["reason"]: row for row in found.quarantined}
    assert rows[reasons.UNPARSABLE_NUMBER] == {
        "file": "broken.csv",
        "line": 10,
        "reason": "unparsable_number",
        "field": "price",
        "value": "cheap",
        "text": "i8,2026-10-01T00:08:00,s,a,cheap,1",
    }
    assert rows[reasons.INVALID_UTF8]["value"] == "\\xff\\xfe"
    assert rows[reasons.TRUNCATED_FILE]["file"] == "truncated.csv.gz"
    assert rows[reasons.TRUNCATED_FILE]["line"] == 2 + len(from_truncated)


@pytest.mark.parametrize("compressed", [False, True])
def test_chunks_do_not_matter(drop: Path, output: Path, compressed: bool) -> None:
    rows = [impression(number, site="x\ny" if number % 5 else 'q"') for number in range(300)]
    rows[100:100] = rows[:20]
    data = as_csv(rows).replace(b"i250,", b'i250,"', 1)
    (drop / ("a.csv.gz" if compressed else "a.csv")).write_bytes(gzip.compress(data) if compressed else data)
    whole = ingest(drop, output / "whole")
    cut = ingest(drop, output / "cut", chunk_bytes=1_024)
    assert cut.counts == whole.counts
    assert whole.counts["rows_duplicate"] == 20 and whole.counts["rows_quarantined"] > 0
    assert cut.quarantined == whole.quarantined
    for split in SPLITS:
        assert cut.examples(split) == whole.examples(split)
        assert len(split_files(cut.artifacts["examples"], split)) > len(split_files(whole.artifacts["examples"], split))


def test_first_of_the_rows_with_one_identifier_is_kept(drop: Path, output: Path) -> None:
    for name, site in (("a.csv", "first"), ("b.csv", "second")):
        rows = [impression(number, site=site) for number in range(50)]
        (drop / name).write_bytes(as_csv([*rows, *rows]))
    found = ingest(drop, output, chunk_bytes=1_024)
    assert found.counts["rows_duplicate"] == 150
    assert {example["site"][0] for example in found.examples()} == {b"first"}
    assert found.counts["rows_conflicting"] == 100 and found.counts["conflicts_by_column"] == {"site": 32}
    assert len(found.counts["examples_of_trouble"]["conflicting_rows"]) == 3
    assert all(": site 'first' and 'second'" in one for one in found.counts["examples_of_trouble"]["conflicting_rows"])


def test_an_impression_is_clicked_if_any_of_its_rows_is(drop: Path, output: Path) -> None:
    shown = [impression(number, clicked="0") for number in range(90)]
    clicked = [impression(number, clicked="1") for number in range(0, 90, 3)]
    (drop / "a.csv").write_bytes(as_csv(clicked[:10] + shown))
    (drop / "b.csv").write_bytes(as_csv(clicked[10:]))
    found = ingest(drop, output, chunk_bytes=1_024)
    assert identifiers([one for one in found.examples() if one["clicked"] == [1]]) == sorted(
        f"i{number}" for number in range(0, 90, 3)
    )
    counts = found.counts
    assert (counts["rows_duplicate"], counts["rows_conflicting"], counts["rows_clicked_later"]) == (30, 0, 20)
    assert "conflicting_rows" not in counts["examples_of_trouble"]


def test_a_click_row_with_its_own_time_is_no_second_impression(drop: Path, output: Path) -> None:
    shown = [impression(number, clicked="0") for number in range(90)]
    clicked = [impression(number, clicked="1") for number in range(0, 90, 3)]
    for row in clicked:
        row[1] = f"{row[1][:-2]}30"
    # Whichever comes first in the drop.
    (drop / "a.csv").write_bytes(as_csv(clicked[:10] + shown))
    again = impression(1, clicked="0")
    again[1] = f"{again[1][:-2]}59"
    (drop / "b.csv").write_bytes(as_csv([*clicked[10:], again]))
    found = ingest(drop, output, chunk_bytes=1_024)
    only = output / "impressions"
    (drop / "b.csv").unlink()
    (drop / "a.csv").write_bytes(as_csv(shown))
    as_shown = sorted(example["timestamp"] for example in ingest(drop, only).examples())
    assert sorted(example["timestamp"] for example in found.examples()) == as_shown
    assert sum(one["clicked"] == [1] for one in found.examples()) == 30
    counts = found.counts
    assert (counts["rows_duplicate"], counts["rows_clicked_later"], counts["rows_of_clicks"]) == (31, 30, 30)
    # An impression is not shown twice.
    assert counts["rows_conflicting"] == 1 and counts["conflicts_by_column"] == {"timestamp": 1}


def test_a_file_delivered_twice_is_counted_once(drop: Path, output: Path) -> None:
    features = {name: column for name, column in PLAIN.items() if name != "impression_id"}
    content = as_csv([impression(number) for number in range(90)])
    for name in ("a.csv", "a (1).csv"):
        (drop / name).write_bytes(content)
    (drop / "b.csv").write_bytes(as_csv([impression(number) for number in range(90, 95)]))
    found = ingest(drop, output, features)
    assert found.counts["rows_in"] == found.counts["rows_examples"] == 95
    assert found.counts["copied_files"] == {"a (1).csv": "a.csv"}


def test_rows_dated_outside_their_month_are_counted_but_for_a_day(drop: Path, output: Path) -> None:
    rows = [impression(number) for number in range(90)]
    for number, day in enumerate(["2026-09-30", "2026-11-01", "2026-09-29", "2026-11-02", "2025-10-07"]):
        rows[number][1] = f"{day}T12:00:00"
    (drop / "a.csv").write_bytes(as_csv(rows))
    assert ingest(drop, output).counts["rows_dated_in"] == {"2025-10": 1, "2026-09": 1, "2026-11": 1}


def test_split_by_time_holds_out_the_latest(drop: Path, output: Path) -> None:
    numbers = np.random.default_rng(1).permutation(100).tolist()
    (drop / "a.csv").write_bytes(as_csv([impression(number) for number in numbers]))
    found = ingest(drop, output, chunk_bytes=1_024, split=SplitSettings(eval_share=0.25, validation_share=0.15))
    for split, part in (("train", range(60)), ("validation", range(60, 75)), ("eval", range(75, 100))):
        assert identifiers(found.examples(split)) == sorted(f"i{number}" for number in part)
        assert found.counts[f"rows_{split}"] == len(part)
    assert found.counts["validation_from"] == str(1_790_812_800 + 60 * 60)
    assert found.counts["evaluation_from"] == str(1_790_812_800 + 75 * 60)


def test_split_by_hash_without_an_identifier_goes_by_the_whole_row(drop: Path, output: Path) -> None:
    features = {name: column for name, column in PLAIN.items() if name != "impression_id"}
    rows = [[f"i{number}", *impression(number % 400)[1:-1], str(number % 2)] for number in range(1_200)]
    (drop / "a.csv").write_bytes(as_csv(rows))

    found = ingest(drop, output, features, split=SplitSettings(by="hash", eval_share=0.3), chunk_bytes=4_096)

    assert 0.2 < found.counts["rows_eval"] / 1_200 < 0.4
    assert 0.05 < found.counts["rows_validation"] / 1_200 < 0.15
    parts = [{str(example["timestamp"]) for example in found.examples(name)} for name in SPLITS]
    assert len(set.union(*parts)) == sum(map(len, parts)), "rows that differ in their label alone stay together"


@pytest.mark.parametrize("column", ["impression_id", "site", "price", "timestamp", "topics"])
def test_split_by_hash_keeps_values_together(drop: Path, output: Path, column: str) -> None:
    rows = [
        impression(number, site=f"site {number % 40}", price=str(number % 41), topics=f"a|t{number % 42}")
        for number in range(400)
    ]
    (drop / "a.csv").write_bytes(as_csv(rows))
    split = SplitSettings(by="hash", column=column, eval_share=0.3)
    found = ingest(drop, output, split=split, chunk_bytes=4_096)
    parts = [{str(example[column]) for example in found.examples(name)} for name in SPLITS]
    assert len(set.union(*parts)) == sum(map(len, parts))
    assert 0.1 < found.counts["rows_eval"] / 400 < 0.5
    assert found.counts["validation_from"] == found.counts["evaluation_from"] == ""
    other = ingest(drop, output.with_name("other"), split=split.model_copy(update={"validation_share": 0.2}))
    assert identifiers(other.examples("eval")) == identifiers(found.examples("eval"))


def test_files_without_header_and_other_delimiters(drop: Path, output: Path) -> None:
    rows = [impression(number) for number in range(10)]
    (drop / "a.tsv").write_bytes(as_csv(rows, header=None, delimiter="\t"))
    found = ingest(drop, output, form=CsvSettings(delimiter="\\t", header=False, columns=tuple(HEADER)))
    assert found.counts["rows_examples"] == 10


def test_columns_are_found_by_name_in_each_file(drop: Path, output: Path) -> None:
    rows = [impression(number) for number in range(10)]
    (drop / "a.csv").write_bytes(as_csv(rows[:5]))
    backwards = [[*row[::-1], "other"] for row in rows[5:]]
    (drop / "15").mkdir()
    (drop / "15" / "b.csv").write_bytes(as_csv(backwards, [*HEADER[::-1], "unused"]))
    (drop / "._a.csv").write_bytes(b"\x00\x05\x16\x07")
    found = ingest(drop, output)
    assert identifiers(found.examples()) == [f"i{number}" for number in range(10)]
    assert found.counts["ignored_csv_columns"] == {"unused": 1}
    assert found.counts["unknown_columns"] == {"unused": {"filled": 5, "values": ["other"]}}


def test_one_file_is_a_drop(drop: Path, output: Path) -> None:
    (drop / "a.csv").write_bytes(as_csv([impression(number) for number in range(10)]))
    (drop / "b.csv").write_bytes(as_csv([impression(number) for number in range(20, 30)]))
    assert ingest(drop / "a.csv", output).counts["rows_in"] == 10


def test_compressed_examples(drop: Path, output: Path) -> None:
    (drop / "a.csv").write_bytes(as_csv([impression(number) for number in range(10)]))
    found = ingest(drop, output, compress=True)
    assert all(file.endswith(".gz") for file in split_files(found.artifacts["examples"], "train"))
    assert found.counts["rows_examples"] == 10


def test_artifacts_carry_span_format_and_counts(drop: Path, output: Path) -> None:
    (drop / "a.csv").write_bytes(as_csv([*(impression(number) for number in range(10)), ["bad"]]))
    (examples,) = ingest(drop, output).artifacts["examples"]
    assert examples.span == 202610
    assert json.loads(examples.split_names) == list(SPLITS)
    assert examples.get_string_custom_property("payload_format") == "FORMAT_TF_EXAMPLE"
    assert examples.get_int_custom_property("rows_in") == 11
    assert json.loads(examples.get_string_custom_property("quarantined_by_reason")) == {"wrong_field_count": 1}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no CSV or Parquet file"),
        ({"readme.md": b"x"}, "holds no CSV or Parquet file"),
        ({"a.csv": b""}, "every file is empty"),
        ({"a.csv": as_csv([])}, "no file has a row"),
        ({"a.csv": as_csv([impression(1)], header=None)}, r"a\.csv: the header has no column impression_id"),
        ({"a.csv": as_csv([], [name for name in HEADER if name != "price"])}, "the header has no column price;"),
        ({"a.csv": as_csv([], [*HEADER, "price"])}, "names price twice"),
        ({"a.csv": as_csv([impression(1)]).decode().encode("utf-16")}, "is UTF-16"),
        ({"a.csv": as_csv([impression(1)]).replace(b"\n", b"\r")}, "carriage return"),
        ({"a.csv": b"\x89PNG\r\n\x1a\n\xff\xff"}, "is no header"),
        ({"a.csv.gz": b"not compressed"}, r"a\.csv\.gz: cannot be decompressed"),
        ({"a.csv": as_csv([impression(1), impression(1), impression(2)])}, "fewer than 3 minutes"),
        ({"a.csv": as_csv([impression(number) for number in (1, 1, 2, 2)])}, "fewer than 3 minutes"),
        ({"a.csv": as_csv([["bad"]])}, r"(?s)not one of 1 rows.*wrong_field_count 1.*a\.csv:2"),
    ],
)
def test_refused_drops(drop: Path, output: Path, files: Mapping[str, bytes], message: str) -> None:
    for name, content in files.items():
        (drop / name).write_bytes(content)
    with pytest.raises(DataRefused, match=message) as refusal:
        ingest(drop, output)
    assert refusal.value.remedy


def test_a_month_too_small_for_three_parts_is_refused(drop: Path, output: Path) -> None:
    (drop / "a.csv").write_bytes(as_csv([impression(number) for number in range(2)]))
    split = SplitSettings(by="hash")
    with pytest.raises(DataRefused, match=r"of 2 rows \d are to train on, \d to validate on and \d to eval") as found:
        ingest(drop, output, split=split)
    assert "split.validation_share" in found.value.remedy


def test_missing_drop_is_refused(tmp_path: Path, output: Path) -> None:
    with pytest.raises(DataRefused, match="no such file or folder"):
        ingest(tmp_path / "nowhere", output)


def encoded(image: Image.Image, form: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


def test_creatives(drop: Path, output: Path) -> None:
    images = drop / "images"
    images.mkdir()
    red, blue = (Image.new("RGB", (40, 30), color) for color in ("red", "blue"))
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    contents = {
        "red.png": encoded(red, "PNG"),
        "red_again.png": encoded(red, "PNG"),
        "blue.webp": encoded(blue, "WEBP"),
        "cmyk.jpg": encoded(blue.convert("CMYK"), "JPEG"),
        "truncated.jpg": encoded(noise, "JPEG")[:2_000],
        "empty.png": b"",
        "page.png": b"<html></html>",
        "huge.png": encoded(Image.new("1", (20_000, 20_000)), "PNG"),
        "heavy.png": b"x" * 1_500_000,
    }
    for name, content in contents.items():
        (images / name).write_bytes(content)
    (images / "folder.png").mkdir()
    statuses = {
        "images/red.png": "ok",
        "images/red_again.png": "ok",
        str(images / "blue.webp"): "ok",
        "images/cmyk.jpg": "ok",
        "images/truncated.jpg": "corrupt",
        "images/empty.png": "corrupt",
        "images/page.png": "corrupt",
        "images/huge.png": "oversized",
        "images/heavy.png": "oversized",
        "images/folder.png": "missing",
        "images/none.png": "missing",
        "https://example.com/a.png": "missing",
        "x" * 5_000: "missing",
        "null": "none",
    }
    rows = [[*impression(n), list(statuses)[n % len(statuses)]] for n in range(10 * len(statuses))]
    (drop / "a.csv").write_bytes(as_csv(rows, [*HEADER, "image"]))
    found = ingest(drop, output, WITH_IMAGE, chunk_bytes=8_192, max_image_bytes=1_000_000)

    sizes = Counter(statuses.values())
    assert found.counts["impressions_by_image_status"] == {status: 10 * size for status, size in sizes.items()}
    del sizes["none"]
    assert found.counts["creatives_by_status"] == sizes
    creatives = {creative.key: creative for creative in found.creatives}
    assert len(creatives) == len(statuses) - 2  # one cell is missing, and one content has two addresses
    addresses = list(statuses)
    for example in found.examples():
        address = addresses[int(example["impression_id"][0][1:]) % len(statuses)]
        assert example["image_status"] == [statuses[address].encode()]
        if address == "null":
            assert example["image"] == []
            continue
        creative = creatives[example["image"][0].decode()]
        assert creative.status == statuses[address]
        assert (creative.image is not None) == (creative.status == "ok") == (not creative.error)
    by_source = {Path(creative.source).name: creative for creative in creatives.values()}
    red_file = contents["red.png"]
    assert by_source["red.png"].image == bytes(np.asarray(decode_and_resize(tf.constant(red_file), SIZE)).tobytes())
    assert (by_source["red.png"].width, by_source["red.png"].height) == (40, 30)
    assert by_source["none.png"].key.startswith("missing-")


def test_fingerprint_keys_the_component(drop: Path) -> None:
    (drop / "a.csv").write_bytes(as_csv([impression(1)]))
    component = AdExampleGen(
        drop_uri=str(drop),
        version=1,
        span=202610,
        fingerprint=drop_fingerprint(str(drop)),
        features=json.dumps(PLAIN),
        csv=CsvSettings().model_dump_json(),
        ingestion=IngestionSettings().model_dump_json(),
        split=SplitSettings().model_dump_json(),
    )
    assert set(component.outputs) == {"examples", "creatives", "quarantine"}
    assert component.exec_properties["fingerprint"] == drop_fingerprint(str(drop))


def test_an_image_that_is_known_is_not_decoded(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"known by its bytes, whatever they show")
    address = str(tmp_path / "a.png")
    unknown = read_creative(address, IngestionSettings())
    known = read_creative(address, IngestionSettings(), {unknown.key})
    assert (unknown.status, known.status, known.key, known.image) == ("corrupt", "ok", unknown.key, None)


def test_a_month_of_known_images_gives_what_its_first_reading_gave(drop: Path, tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(4)]
    for number, name in enumerate(names):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(drop / name)
        os.utime(drop / name, (1, 1))
    rows = [[*impression(number), [*names, "none.png"][number % 5]] for number in range(50)]
    (drop / "a.csv").write_bytes(as_csv(rows, [*HEADER, "image"]))
    store = tmp_path / "creatives.sqlite"
    without = ingest(drop, tmp_path / "without", WITH_IMAGE)
    first = ingest(drop, tmp_path / "first", WITH_IMAGE, creative_store=store)
    second = ingest(drop, tmp_path / "second", WITH_IMAGE, creative_store=store)

    assert without.counts["images_by_reading"] == {}
    assert first.counts["images_by_reading"] == {"new": 4, "unusable": 1}
    assert second.counts["images_by_reading"] == {"unchanged": 4, "unusable": 1}
    assert without.creatives == first.creatives == second.creatives
    assert without.examples() == first.examples() == second.examples()
    assert not [note for note in second.counts["examples_of_trouble"] if note == "creative_store"]

    store.write_bytes(b"no database")
    third = ingest(drop, tmp_path / "third", WITH_IMAGE, creative_store=store)
    assert third.creatives == first.creatives
    (trouble,) = third.counts["examples_of_trouble"]["creative_store"]
    assert "begun anew" in trouble


def test_a_drop_that_shows_no_image(drop: Path, output: Path) -> None:
    rows = [[*impression(number), ""] for number in range(20)]
    (drop / "a.csv").write_bytes(as_csv(rows, [*HEADER, "image"]))
    found = ingest(drop, output, WITH_IMAGE)
    assert found.counts["impressions_by_image_status"] == {"none": 20}
    assert found.creatives == []


def test_parquet_gives_the_examples_of_csv(drop: Path, output: Path) -> None:
    rows = [impression(number, topics="" if number % 3 else "a|b") for number in range(200)]
    rows += rows[:10]
    (drop / "a.csv").write_bytes(as_csv(rows))
    from_csv = ingest(drop, output / "csv")
    (drop / "a.csv").unlink()
    frame = pd.DataFrame(rows, columns=HEADER).astype({"price": float, "clicked": int})
    frame["timestamp"] = pd.to_datetime(frame["timestamp"])
    frame.to_parquet(drop / "a.parquet", index=False, row_group_size=64)
    from_parquet = ingest(drop, output / "parquet", chunk_bytes=1_024)
    counts = {name: count for name, count in from_csv.counts.items() if name != "drop_uri"}
    assert counts["rows_duplicate"] == 10
    assert {name: from_parquet.counts[name] for name in counts} == counts
    for split in SPLITS:
        assert from_parquet.examples(split) == from_csv.examples(split)
