"""`adclick init` on click logs of many shapes: what it takes each column for, and what it warns of."""

from __future__ import annotations

import csv
import gzip
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.config import Config, load_config
from pipeline.init import InitResult, run_init
from pipeline.init.sampling import sample
from schema.curated import check_schema, load_schema
from schema.errors import ConfigError

ROWS = 1_500
Columns = dict[str, Sequence[Any]]


def click_log(rows: int = ROWS, seed: int = 3) -> Columns:
    """A plain log: device and position move the click rate, ids are skewed."""
    random = np.random.default_rng(seed)
    device = random.choice(["desktop", "mobile", "tablet"], rows, p=[0.4, 0.5, 0.1])
    position = random.integers(1, 5, rows)
    clicked = random.random(rows) < 0.05 + 0.1 * (device == "mobile") + 0.1 * (position == 1)
    seconds = np.sort(random.integers(0, 28 * 86_400, rows))
    day, rest = np.divmod(seconds, 86_400)
    times = [f"2026-02-{d + 1:02}T{r // 3600:02}:{r // 60 % 60:02}:{r % 60:02}" for d, r in zip(day, rest, strict=True)]
    return {
        "impression_id": [f"{number:016x}" for number in random.integers(0, 2**62, rows)],
        "timestamp": times,
        "user_id": [f"u{number}" for number in random.zipf(1.2, rows) % 5_000],
        "device_type": device,
        "ad_position": position,
        "ad_id": [f"ad{number}" for number in random.zipf(1.3, rows) % 300],
        "impressions_before": random.geometric(0.1, rows) ** 2 - 1,
        "bid_price": np.round(random.normal(2.0, 0.4, rows), 3),
        "clicked": clicked.astype(int),
    }


def write_csv(path: Path, columns: Mapping[str, Sequence[Any]], *, delimiter: str = ",", header: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", newline="") if path.name.endswith(".gz") else path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        if header:
            writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def initialise(tmp_path: Path, columns: Mapping[str, Sequence[Any]], **dialect: Any) -> tuple[InitResult, Config]:
    result = run_init(write_csv(tmp_path / "log.csv", columns, **dialect), tmp_path / "project", force=False)
    return result, load_config(result.config_path)


def roles(result: InitResult) -> dict[str, str]:
    return {column.name: column.role for column in result.columns}


def test_a_plain_log(tmp_path: Path) -> None:
    result, config = initialise(tmp_path, click_log())
    assert roles(result) == {
        "impression_id": "identifier",
        "timestamp": "timestamp",
        "user_id": "categorical",
        "device_type": "categorical",
        "ad_position": "categorical",
        "ad_id": "categorical",
        "impressions_before": "numeric",
        "bid_price": "numeric",
        "clicked": "label",
    }
    assert result.warnings == []
    assert config.data.root == str(tmp_path / "log.csv")
    assert config.split.by == "time"
    assert config.evaluation.slices[:2] == (("device_type",), ("ad_position",))
    assert config.evaluation.new_value_slices == ("ad_id",)
    features = config.features.root
    assert features["impressions_before"].scaling == "log"  # type: ignore[union-attr]
    assert features["bid_price"].scaling == "standard"  # type: ignore[union-attr]


def test_the_files_agree_and_explain_themselves(tmp_path: Path) -> None:
    result, config = initialise(tmp_path, click_log())
    schema = load_schema(str(result.schema_path))
    check_schema(schema, config.features)
    by_name = {feature.name: feature for feature in schema.feature}
    assert list(by_name["device_type"].string_domain.value) == ["desktop", "mobile", "tablet"]
    assert not by_name["user_id"].string_domain.value
    assert by_name["device_type"].presence.min_fraction == pytest.approx(0.99)
    text = result.config_path.read_text()
    for column in result.columns:
        assert column.reason
        lines = text.splitlines()
        (at,) = [number for number, line in enumerate(lines) if line.startswith(f"  {column.name}:")]
        assert lines[at - 1].lstrip().startswith("#")


def test_a_log_like_avazu(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    columns = {
        "id": [str(number) for number in random.integers(10**18, 9 * 10**18, ROWS)],
        "click": (random.random(ROWS) < 0.17).astype(int),
        "hour": ["14102100"] * ROWS,
        "C1": random.choice([1005, 1002, 1010], ROWS, p=[0.9, 0.05, 0.05]),
        "banner_pos": random.choice([0, 1], ROWS, p=[0.7, 0.3]),
        "site_id": [f"{number:08x}" for number in random.zipf(1.4, ROWS) % 4096 * 65_537],
        "C14": random.choice([15704, 15706, 20352, 21189, 4687, 375], ROWS),
        "C20": random.choice([-1, 100084, 100019, 100111], ROWS),
    }
    result, config = initialise(tmp_path, columns)
    assert roles(result) == {
        "id": "identifier",
        "click": "label",
        "hour": "ignored",
        **dict.fromkeys(["C1", "banner_pos", "site_id", "C14", "C20"], "categorical"),
    }
    assert (config.split.by, config.split.column) == ("hash", None)
    assert len(result.warnings) == 1
    assert "'hour'" in result.warnings[0]
    assert "constant" in result.warnings[0]
    assert "%y%m%d%H" in result.warnings[0]


def test_hours_as_digits_are_times(tmp_path: Path) -> None:
    columns = click_log()
    columns["hour"] = [time[2:13].replace("-", "").replace("T", "") for time in columns.pop("timestamp")]
    result, config = initialise(tmp_path, columns)
    assert roles(result)["hour"] == "timestamp"
    assert config.features.root["hour"].format == "%y%m%d%H"  # type: ignore[union-attr]
    assert config.split.by == "time"


@pytest.mark.parametrize(
    ("write", "time_format"),
    [
        (lambda time: time + "Z", "iso8601"),
        (lambda time: time.replace("T", " ") + ".125", "iso8601"),
        (lambda time: str(int(np.datetime64(time).astype(int))), "epoch_seconds"),
        (lambda time: str(int(np.datetime64(time).astype(int)) * 1000 + 7), "epoch_milliseconds"),
        (lambda time: f"{time[5:7]}/{time[8:10]}/{time[:4]} {time[11:]}", "%m/%d/%Y %H:%M:%S"),
        (lambda time: f"{time[8:10]}.{time[5:7]}.{time[:4]} {time[11:16]}", "%d.%m.%Y %H:%M"),
        (lambda time: time[:10].replace("-", ""), "%Y%m%d"),
    ],
)
def test_time_formats(tmp_path: Path, write: Callable[[str], str], time_format: str) -> None:
    columns = click_log()
    columns["timestamp"] = [write(time) for time in columns["timestamp"]]
    _, config = initialise(tmp_path, columns)
    assert config.features.root["timestamp"].format == time_format  # type: ignore[union-attr]


def test_a_log_like_criteo(tmp_path: Path) -> None:
    random = np.random.default_rng(6)

    def sometimes(values: Sequence[Any], share: float) -> list[str]:
        return [str(value) if kept else "" for value, kept in zip(values, random.random(ROWS) < share, strict=True)]

    columns = {
        "0": (random.random(ROWS) < 0.24).astype(int),
        "1": sometimes(random.geometric(0.3, ROWS) - 1, 0.55),
        "2": random.geometric(0.02, ROWS) - 3,
        "3": sometimes((random.pareto(0.6, ROWS) * 100).astype(int), 0.97),
        "4": [f"{number:08x}" for number in random.zipf(1.5, ROWS) % 1000 * 2_654_435],
        "5": sometimes([f"{number:08x}" for number in random.zipf(1.2, ROWS) % 2**31], 0.9),
    }
    result, config = initialise(tmp_path, columns, delimiter="\t", header=False)
    assert roles(result) == {
        "label": "label",
        "integer_1": "numeric",
        "integer_2": "numeric",
        "integer_3": "numeric",
        "category_1": "categorical",
        "category_2": "categorical",
    }
    assert (config.csv.delimiter, config.csv.header) == ("\t", False)
    assert config.csv.columns == tuple(roles(result))
    assert (config.split.by, config.split.column) == ("hash", None)
    assert "whole row" in result.config_path.read_text().split("split:")[0]
    # Negative values of several kinds are values, not a marker.
    assert config.features.root["integer_2"].missing == ()


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_delimiters(tmp_path: Path, delimiter: str) -> None:
    columns = click_log()
    columns["title"] = ['Shoes, "red"; size 9 | new'] * ROWS
    result, config = initialise(tmp_path, columns, delimiter=delimiter)
    assert config.csv.delimiter == delimiter
    assert roles(result)["bid_price"] == "numeric"


def test_a_column_that_marks_missing_values_by_minus_one(tmp_path: Path) -> None:
    columns = click_log()
    columns["bid_price"] = ["-1" if row % 10 == 0 else price for row, price in enumerate(columns["bid_price"])]
    columns["temperature"] = np.random.default_rng(0).integers(-9, 30, ROWS)
    columns["os"] = [("android", "ios", "-1")[row % 3] for row in range(ROWS)]
    columns["ad_width"] = [(300, 728, -1)[row % 3] for row in range(ROWS)]
    columns["duration"] = ["n/a" if row % 5 == 0 else row % 97 for row in range(ROWS)]
    result, config = initialise(tmp_path, columns)
    assert config.features.root["bid_price"].missing == ("-1",)
    assert config.features.root["temperature"].missing == ()
    assert config.features.root["duration"].missing == ("n/a",)
    assert roles(result)["duration"] == "numeric"
    assert config.features.root["os"].missing == ("-1",)
    assert config.features.root["ad_width"].missing == ("-1",)
    assert roles(result)["ad_width"] == "categorical"
    presence = {feature.name: feature.presence for feature in load_schema(str(result.schema_path)).feature}
    assert 0.6 < presence["bid_price"].min_fraction < 0.9


def test_several_values_in_a_cell(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    interests = ["sport", "news", "food", "cars", "travel", "music"]
    columns = click_log()
    columns["interests"] = [
        "|".join(random.choice(interests, random.integers(0, 5), replace=False)) for _ in range(ROWS)
    ]
    columns["tags"] = ["; ".join(random.choice(interests, random.integers(1, 4), replace=False)) for _ in range(ROWS)]
    result, config = initialise(tmp_path, columns)
    assert roles(result)["interests"] == "multi_valued"
    assert config.features.root["tags"].separator == "; "  # type: ignore[union-attr]


def test_images_by_suffix(tmp_path: Path) -> None:
    columns = click_log()
    columns["creative"] = [f"images/{number}.jpg" for number in np.random.default_rng(0).integers(0, 20, ROWS)]
    for name in set(columns["creative"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    result, config = initialise(tmp_path, columns)
    assert roles(result)["creative"] == "image"
    assert ("creative_status",) in config.evaluation.slices
    assert result.warnings == []


def test_images_that_are_not_there_are_warned_of(tmp_path: Path) -> None:
    columns = click_log()
    columns["image"] = [f"images/{number % 20}.png" for number in range(ROWS)]
    columns["thumbnail"] = [f"https://example.com/{number % 20}.png?w=90" for number in range(ROWS)]
    result, _ = initialise(tmp_path, columns)
    assert roles(result)["image"] == "image"
    assert roles(result)["thumbnail"] == "ignored"
    assert any("'image'" in warning and "not there" in warning for warning in result.warnings)


LEAKS: dict[str, Callable[[np.ndarray[Any, Any], np.random.Generator], Sequence[Any]]] = {
    "click_time": lambda clicked, random: [f"2026-02-01T00:00:{n % 60:02}" for n in range(len(clicked))],
    "conversion": lambda clicked, random: random.integers(0, 2, len(clicked)),
    # Filled only after some of the clicks.
    "visit": lambda clicked, random: [f"v{n}" if c and n % 2 else "" for n, c in enumerate(clicked)],
    "seconds_read": lambda clicked, random: [random.integers(1, 500) if c else 0 for c in clicked],
    "billed": lambda clicked, random: ["cpc" if c else "none" for c in clicked],
    "engagement": lambda clicked, random: np.round(clicked * 3 + random.normal(0, 0.5, len(clicked)), 4),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_column_that_gives_the_label_away_is_ignored(tmp_path: Path, name: str) -> None:
    columns = click_log()
    columns[name] = LEAKS[name](np.asarray(columns["clicked"]), np.random.default_rng(0))
    result, _ = initialise(tmp_path, columns)
    assert roles(result)[name] == "ignored"
    assert [warning for warning in result.warnings if repr(name) in warning and "the label away" in warning]
    assert roles(result)["device_type"] == "categorical"


def test_an_id_of_many_singletons_is_not_taken_for_a_leak(tmp_path: Path) -> None:
    columns = click_log()
    random = np.random.default_rng(0)
    columns["page_id"] = [f"p{number}" for number in random.integers(0, ROWS, ROWS)]
    # Missing more often where clicked, as an honest column may be.
    columns["region"] = [
        "" if random.random() < 0.2 + 0.3 * clicked else f"r{random.integers(0, 9)}" for clicked in columns["clicked"]
    ]
    result, _ = initialise(tmp_path, columns)
    assert roles(result)["page_id"] == "categorical"
    assert roles(result)["region"] == "categorical"
    assert result.warnings == []


@pytest.mark.parametrize("value", ["EUR", "", "7"])
def test_constants_are_ignored(tmp_path: Path, value: str) -> None:
    result, _ = initialise(tmp_path, {**click_log(), "currency": [value] * ROWS})
    assert roles(result)["currency"] == "ignored"
    assert [warning for warning in result.warnings if "'currency'" in warning]


def test_free_text_is_ignored(tmp_path: Path) -> None:
    headlines = [
        f'<b>Buy {number}</b>, "today" & save 20 %, \n or tomorrow, in our shop at the corner' for number in range(ROWS)
    ]
    result, _ = initialise(tmp_path, {**click_log(), "headline": headlines})
    assert roles(result)["headline"] == "ignored"
    (warning,) = result.warnings
    assert "'headline'" in warning
    assert "free text" in warning
    assert "HTML" in warning


def test_a_running_number_is_the_identifier_by_its_name(tmp_path: Path) -> None:
    """A sample of a large file sees only some of the numbers, and no step of one between them."""
    log = click_log()
    log["impression_id"] = np.arange(ROWS) * 7 + 3
    _, config = initialise(tmp_path, log)
    assert config.features.identifier_name == "impression_id"


def test_a_unique_id_is_not_a_feature(tmp_path: Path) -> None:
    result, _ = initialise(tmp_path, {**click_log(), "cookie_id": [f"{n * 7919:09x}" for n in range(ROWS)]})
    assert roles(result)["impression_id"] == "identifier"
    assert roles(result)["cookie_id"] == "ignored"
    (warning,) = result.warnings
    assert "'cookie_id'" in warning
    assert "unique id taken for a feature" in warning


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["yes", "no"], ["'clicked'", "'yes'", "'no'", "Write 1"]),
        (["1", "2"], ["'clicked'", "'1' and '2'"]),
        (["0", "0", "1", "4", "17"], ["'clicked'", "counts"]),
        (["0"], ["'clicked'", "nothing to learn"]),
        ([""], ["'clicked'", "empty"]),
        (["1", ""], ["'clicked'", "Write 0"]),
    ],
)
def test_a_label_that_is_not_0_or_1_is_refused(tmp_path: Path, values: Sequence[str], expected: Sequence[str]) -> None:
    columns = {**click_log(), "clicked": [values[row % len(values)] for row in range(ROWS)]}
    with pytest.raises(ConfigError) as refused:
        initialise(tmp_path, columns)
    assert all(text in str(refused.value) for text in expected)
    assert not (tmp_path / "project" / "config.yaml").exists()


def test_a_few_bad_labels_are_warned_of(tmp_path: Path) -> None:
    columns = click_log()
    columns["clicked"] = ["maybe" if row % 100 == 0 else value for row, value in enumerate(columns["clicked"])]
    result, _ = initialise(tmp_path, columns)
    (warning,) = result.warnings
    assert "'clicked'" in warning
    assert "'maybe'" in warning


def test_a_label_without_a_telling_name_is_guessed_with_a_warning(tmp_path: Path) -> None:
    columns = click_log()
    columns["outcome_flag"] = columns.pop("clicked")
    result, _ = initialise(tmp_path, columns)
    assert roles(result)["outcome_flag"] == "label"
    assert any("'outcome_flag'" in warning and "label" in warning for warning in result.warnings)


def test_names_that_the_config_cannot_hold_get_a_source(tmp_path: Path) -> None:
    columns = click_log()
    columns["Ad Size (px)"] = [f"{number % 3}00x250" for number in range(ROWS)]
    columns["1st party"] = [str(number % 2) for number in range(ROWS)]
    columns["weekday"] = [str(number % 7) for number in range(ROWS)]
    result, config = initialise(tmp_path, columns)
    assert roles(result)["Ad_Size_px"] == "categorical"
    assert config.features.source_of("Ad_Size_px") == "Ad Size (px)"
    assert config.features.source_of("column_1st_party") == "1st party"
    assert config.features.root["timestamp"].derive == ("hour",)  # type: ignore[union-attr]


def test_a_status_column_of_the_data_makes_way_for_the_images_own(tmp_path: Path) -> None:
    columns = {"image_status": [("new", "old")[row % 2] for row in range(ROWS)], **click_log()}
    columns["image"] = [f"{number % 20}.png" for number in range(ROWS)]
    result, config = initialise(tmp_path, columns)
    assert roles(result)["image_status_of_data"] == "categorical"
    assert config.features.source_of("image_status_of_data") == "image_status"


def test_history_is_no_leak(tmp_path: Path) -> None:
    columns = {**click_log(), "days_since_last_click": np.random.default_rng(0).geometric(0.1, ROWS)}
    result, _ = initialise(tmp_path, columns)
    assert roles(result)["days_since_last_click"] == "numeric"


def test_numbers_with_a_decimal_comma_are_warned_of(tmp_path: Path) -> None:
    columns = click_log()
    columns["bid_price"] = [str(price).replace(".", ",") for price in columns["bid_price"]]
    result, _ = initialise(tmp_path, columns, delimiter=";")
    assert roles(result)["bid_price"] == "ignored"
    (warning,) = result.warnings
    assert "1234.5" in warning


def test_an_index_without_a_name_is_left_out(tmp_path: Path) -> None:
    result, _ = initialise(tmp_path, {"": range(ROWS), **click_log()})
    assert roles(result)["impression_id"] == "identifier"
    assert len(result.columns) == len(click_log())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.text(max_size=12)] * 3, st.sampled_from(["0", "1", "", "x"])), min_size=1, max_size=60))
def test_any_text_ends_in_a_valid_config_or_a_clear_error(rows: list[tuple[str, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("a", "b", "c", "clicked"), *rows])
        try:
            result = run_init(path, Path(folder) / "project", force=False)
        except ConfigError as refused:
            assert refused.remedy
        else:
            config = load_config(result.config_path)
            check_schema(load_schema(str(result.schema_path)), config.features)


def test_months_in_folders_and_compressed_files(tmp_path: Path) -> None:
    for number, month in enumerate(("2026-01", "2026-02")):
        write_csv(tmp_path / "drops" / month / "part.csv.gz", click_log(300, seed=number))
    write_csv(tmp_path / "drops" / "2026-02" / "second.tsv", click_log(300, seed=9))
    (tmp_path / "drops" / "README.txt").write_text("not data\n")
    result = run_init(tmp_path / "drops", tmp_path / "project", force=False)
    assert load_config(result.config_path).data.root == str(tmp_path / "drops")
    assert "3 files" in result.config_path.read_text()
    assert roles(result)["clicked"] == "label"


def test_bad_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "log.csv", click_log())
    lines = path.read_bytes().splitlines(keepends=True)
    lines[10] = b"one,field,too,few\n"
    lines[20] = lines[20].replace(b"desktop", b"\xff\xfe").replace(b"mobile", b"\xff").replace(b"tablet", b"\xff")
    lines[30] = b'"' + lines[30]
    path.write_bytes(b"\xef\xbb\xbf" + b"".join(lines))
    sampled = sample(path)
    assert sampled.columns[0] == "impression_id"
    assert (sampled.rows, sampled.bad_rows) == (ROWS - 3, 3)
    assert any("UTF-8" in warning for warning in sampled.warnings)


def test_a_truncated_gzip_file_is_sampled_up_to_the_damage(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "log.csv.gz", click_log())
    path.write_bytes(path.read_bytes()[:-5_000])
    assert 100 < sample(path).rows < ROWS


def test_a_sample_is_spread_over_the_whole_file(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "log.csv", click_log())
    sampled = sample(path, max_rows=200)
    days = {time[:10] for time in sampled.cells[sampled.columns.index("timestamp")]}
    assert sampled.rows <= 200
    assert len(days) == 28
    assert sampled.estimated_rows == pytest.approx(ROWS, rel=0.02)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.csv", b"", "empty"),
        ("log.csv", b"clicked,device\n", "no row"),
        ("log.csv", b"just one column\n1\n0\n", "delimiter"),
        ("log.csv", "clicked,device\n1,a\n".encode("utf-16"), "UTF-16"),
        ("log.csv", b"clicked,device,device\n1,a,b\n0,a,b\n", "'device' twice"),
        ("log.csv.gz", b"not gzip", "readable row"),
        ("log.parquet", b"PAR1", r"no \.csv"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as refused:
        run_init(folder, tmp_path / "project", force=False)
    assert refused.value.remedy


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        run_init(tmp_path / "nowhere", tmp_path / "project", force=False)


def test_a_review_is_not_overwritten_unless_forced(tmp_path: Path) -> None:
    result, _ = initialise(tmp_path, click_log())
    result.config_path.write_text("reviewed")
    with pytest.raises(ConfigError, match="exists already"):
        run_init(tmp_path / "log.csv", tmp_path / "project", force=False)
    assert result.config_path.read_text() == "reviewed"
    run_init(tmp_path / "log.csv", tmp_path / "project", force=True)
    assert load_config(result.config_path).features.label_name == "clicked"
    assert sorted(file.name for file in result.config_path.parent.iterdir()) == ["config.yaml", "schema.pbtxt"]
