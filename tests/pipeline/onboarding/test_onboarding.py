"""`adclick init` on click logs of many shapes: what it takes each column for, and what it warns of."""

from __future__ import annotations

import csv
import gzip
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adclick.pipeline.config.settings import Config, load_config
from adclick.pipeline.onboarding import InitResult, run_init
from adclick.pipeline.onboarding.sampling import sample
from adclick.schema.curated import check_schema, load_schema
from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import FeatureTable
from adclick.schema.roles.label import Label

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


def test_clicks_tell_codes_from_quantities(tmp_path: Path) -> None:
    """A slot's id has wide gaps and starts at 0; only the clicks, or the gaps, show that it is no amount."""
    random = np.random.default_rng(2)
    slots = np.array([0, 3, 17, 4_280_543_349, 1_147_483_648, 99_999, 20_000_000])
    chosen = random.choice(len(slots), ROWS, p=[0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    columns = {**click_log(), "level": slots[chosen]}
    result, _ = initialise(tmp_path / "form", columns)
    assert roles(result)["level"] == "categorical"
    (reason,) = [column.reason for column in result.columns if column.name == "level"]
    assert "by their name and form" in reason

    stays = random.integers(0, 8, ROWS)
    columns |= {"stays": stays, "clicked": (random.random(ROWS) < np.where(stays % 2, 0.4, 0.02)).astype(int)}
    result, _ = initialise(tmp_path / "clicks", columns)
    assert roles(result)["stays"] == "categorical"
    (reason,) = [column.reason for column in result.columns if column.name == "stays"]
    assert "predict held-out clicks better" in reason


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


def test_a_time_of_the_click_that_every_row_has_splits_the_data(tmp_path: Path) -> None:
    columns = click_log()
    columns["click_time"] = columns.pop("timestamp")
    result, config = initialise(tmp_path, columns)
    assert roles(result)["click_time"] == "timestamp"
    assert config.split.by == "time"
    (warning,) = result.warnings
    assert "'click_time'" in warning
    assert "every row has it" in warning


def test_what_a_click_brings_is_known_where_the_label_comes_later(tmp_path: Path) -> None:
    columns = click_log()
    columns["is_attributed"] = columns.pop("clicked")
    columns["click_x"] = np.random.default_rng(1).integers(0, 9, ROWS)
    columns["attributed_time"] = [
        time if label else "" for time, label in zip(columns["timestamp"], columns["is_attributed"], strict=True)
    ]
    result, _ = initialise(tmp_path, columns)
    assert roles(result)["click_x"] != "ignored"
    assert roles(result)["attributed_time"] == "ignored"
    assert any("'attributed_time'" in warning and "the label away" in warning for warning in result.warnings)


def with_second_rows(columns: Columns) -> Columns:
    """Each click as a second row of its impression, whose own row says that it was not clicked."""
    clicked = np.flatnonzero(np.asarray(columns["clicked"]))
    doubled = {name: [*values, *np.asarray(values)[clicked]] for name, values in columns.items()}
    doubled["clicked"] = [0] * ROWS + [1] * len(clicked)
    return doubled


def test_an_identifier_that_repeats_is_said_to(tmp_path: Path) -> None:
    result, config = initialise(tmp_path, with_second_rows(click_log()))
    assert config.features.identifier_name == "impression_id"
    (warning,) = result.warnings
    assert "'impression_id'" in warning
    assert "stand in several rows" in warning
    assert "clicked if any of its rows is" in warning


def test_an_identifier_of_several_ads_is_no_feature(tmp_path: Path) -> None:
    columns = click_log()
    del columns["impression_id"]
    columns = {"request_id": [f"{row // 4 * 7919:09x}" for row in range(ROWS)], **columns}
    result, _ = initialise(tmp_path, columns)
    assert roles(result)["request_id"] == "ignored"
    (warning,) = result.warnings
    assert "'request_id'" in warning
    assert "differ in other columns" in warning


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


def test_free_text_is_read_word_by_word(tmp_path: Path) -> None:
    headlines = [
        f'<b>Buy {number}</b>, "today" & save 20 %, \n or tomorrow, in our shop at the corner' for number in range(ROWS)
    ]
    result, config = initialise(tmp_path, {**click_log(), "headline": headlines})
    assert config.features.root["headline"].role == "text"
    assert not result.warnings
    (reason,) = [column.reason for column in result.columns if column.name == "headline"]
    assert "free text" in reason
    assert "HTML" in reason


def test_structured_text_is_ignored(tmp_path: Path) -> None:
    documents = [f'{{"id": {number}, "name": "shoes", "note": "one of many"}}' for number in range(ROWS)]
    result, _ = initialise(tmp_path, {**click_log(), "document": documents})
    assert roles(result)["document"] == "ignored"
    (warning,) = result.warnings
    assert "'document'" in warning and "structured free text" in warning


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
        (["ja", "nein"], ["'clicked'", "'ja'", "'nein'", "--positive"]),
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


@pytest.mark.parametrize(
    ("unclicked", "clicked", "settings"),
    [
        (["0"], ["1"], {}),
        (["0.0", "0"], ["1.0", "1"], {}),
        (["false"], ["true"], {"negative": ("false",), "positive": ("true",)}),
        (["FALSE", "False"], ["True"], {"negative": ("false",), "positive": ("true",)}),
        (["f"], ["t"], {"negative": ("f",), "positive": ("t",)}),
        (["No"], ["Yes"], {"negative": ("no",), "positive": ("yes",)}),
        (["N"], ["Y"], {"negative": ("n",), "positive": ("y",)}),
        (["no_click"], ["CLICK"], {"negative": ("no_click",), "positive": ("click",)}),
        (["not clicked"], ["clicked"], {"negative": ("not clicked",), "positive": ("clicked",)}),
        (["-1"], ["1"], {"negative": ("-1",), "positive": ("1",)}),
        (["0", "false"], ["1", "true"], {"negative": ("0", "false"), "positive": ("1", "true")}),
    ],
)
def test_a_label_may_be_written_in_many_ways(
    tmp_path: Path, unclicked: Sequence[str], clicked: Sequence[str], settings: Mapping[str, Any]
) -> None:
    columns = click_log()
    columns["clicked"] = [
        (clicked if value else unclicked)[row % 2 % len(clicked if value else unclicked)]
        for row, value in enumerate(columns["clicked"])
    ]
    columns["revenue"] = [1 if value in clicked else 0 for value in columns["clicked"]]
    result, config = initialise(tmp_path, columns)
    assert roles(result)["clicked"] == "label"
    label = config.features.root["clicked"]
    assert label.model_dump(include={"positive", "negative"}, exclude_defaults=True) == settings
    assert roles(result)["revenue"] == "ignored", "leaks are found whatever the label's texts"
    (reason,) = [column.reason for column in result.columns if column.name == "clicked"]
    for text in settings.get("positive", ()):
        assert repr(text) in reason, "it says what it took for a click"


def test_the_column_to_predict_may_be_named(tmp_path: Path) -> None:
    columns = click_log()
    installed = np.asarray(columns["clicked"]) & (np.arange(ROWS) % 2 == 0)
    columns["installed"] = ["yes" if value else "no" for value in installed]
    data = write_csv(tmp_path / "log.csv", columns)

    result = run_init(data, tmp_path / "project", force=False, label="installed")

    config = load_config(result.config_path)
    assert config.features.label_name == "installed"
    assert {report.name: report.role for report in result.columns}["clicked"] != "label"
    for wanted, said in (("bought", "no column is called 'bought'"), ("bid_price", "bid_price")):
        with pytest.raises(ConfigError, match=said):
            run_init(data, tmp_path / "other", force=False, label=wanted)


def test_what_means_a_click_may_be_said(tmp_path: Path) -> None:
    columns = click_log()
    words = {1: ("Angeklickt", "gekauft"), 0: ("gezeigt", "abgebrochen", "")}
    columns["ereignis"] = [words[value][row % len(words[value])] for row, value in enumerate(columns.pop("clicked"))]
    data = write_csv(tmp_path / "log.csv", columns)

    def init(*positive: str, label: str | None = "ereignis") -> FeatureTable:
        project = tmp_path / "project"
        return load_config(run_init(data, project, force=True, label=label, positive=positive).config_path).features

    label = init("angeklickt", "GEKAUFT").root["ereignis"]
    assert isinstance(label, Label)
    assert label.values == {"angeklickt": 1, "gekauft": 1, "gezeigt": 0, "abgebrochen": 0, "": 0}
    for wrong, said in (
        ({"positive": ["geklickt"]}, "no sampled row holds 'geklickt'"),
        ({"positive": [*words[0], *words[1]]}, "nothing else"),
        ({"positive": ["angeklickt"], "label": None}, "--label"),
        ({"positive": [columns["impression_id"][0]], "label": "impression_id"}, "it is no label"),
    ):
        with pytest.raises(ConfigError, match=said):
            init(*wrong["positive"], label=wrong.get("label", "ereignis"))


def test_a_flag_is_no_label_where_another_column_speaks_of_clicks(tmp_path: Path) -> None:
    columns = click_log()
    columns = {"is_app": ["yes" if row % 3 else "no" for row in range(ROWS)], **columns}
    columns["what"] = ["click" if value else "no_click" for value in columns.pop("clicked")]
    result, _ = initialise(tmp_path, columns)
    assert (roles(result)["what"], roles(result)["is_app"]) == ("label", "categorical")


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


def test_columns_are_called_as_in_the_header(tmp_path: Path) -> None:
    columns = click_log()
    columns["Ad Size (px)"] = [f"{number % 3}00x250" for number in range(ROWS)]
    columns["1st party"] = [str(number % 2) for number in range(ROWS)]
    columns["weekday"] = [str(number % 7) for number in range(ROWS)]
    result, config = initialise(tmp_path, columns)
    assert [column.name for column in result.columns] == list(columns) == list(config.features.root)
    assert all(column.source is None for column in config.features.root.values())
    assert config.features.root["timestamp"].derive == ("hour", "weekday")  # type: ignore[union-attr]


def test_columns_without_a_name_are_passed_over_and_told(tmp_path: Path) -> None:
    columns = click_log()
    columns["outcome"] = columns.pop("clicked")
    flags = [number % 9 // 8 for number in range(ROWS)]
    result, _ = initialise(tmp_path, {"": flags, **columns, "  ": ["x", "y"] * (ROWS // 2)})
    assert roles(result)["outcome"] == "label"
    assert [column.name for column in result.columns] == list(columns)
    for number in (1, len(columns) + 2):
        assert any(f"column number {number} has no name" in warning for warning in result.warnings)


def test_a_status_column_of_the_data_keeps_its_name(tmp_path: Path) -> None:
    columns = {"image_status": [("new", "old")[row % 2] for row in range(ROWS)], **click_log()}
    columns["image"] = [f"{number % 20}.png" for number in range(ROWS)]
    result, config = initialise(tmp_path, columns)
    assert roles(result)["image_status"] == "categorical"
    assert ("image_status_",) in config.evaluation.slices


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


def test_columns_that_come_and_go_are_told_and_left_out(tmp_path: Path) -> None:
    drops = tmp_path / "drops"
    older, newer = click_log(300, seed=0), click_log(300, seed=1)
    write_csv(drops / "2026-01" / "log.csv", {"retired": ["x", "y"] * 150, **older})
    write_csv(drops / "2026-02" / "log.csv", {**newer, "browser": ["a", "b"] * 150})
    result = run_init(drops, tmp_path / "project", force=False)
    assert sorted(roles(result)) == sorted(older)
    assert sample(drops).rows == 600, "both months are looked at"
    (warning,) = [warning for warning in result.warnings if "differs" in warning]
    assert "lacks retired" in warning and "adds browser" in warning


def test_days_in_folders_and_what_is_no_data(tmp_path: Path) -> None:
    drops = tmp_path / "drops"
    write_csv(drops / "2026-01" / "log.csv", click_log(300, seed=0))
    write_csv(drops / "2026-01" / "day15" / "log.csv", click_log(300, seed=1))
    (drops / "2026-01" / "._log.csv").write_bytes(b"\x00\x05\x16\x07")
    (drops / "2026-01" / "log.orc").write_bytes(b"ORC")
    (drops / "__MACOSX").mkdir()
    (drops / "notes").mkdir()
    found = sample(drops)
    assert len(found.files) == 2 and found.rows == 600
    passed_over = " ".join(found.warnings)
    assert "'notes/'" in passed_over and "'2026-01/log.orc'" in passed_over and "2 files and folders" in passed_over
    (drops / "2026_02").mkdir()
    with pytest.raises(ConfigError, match="'2026_02' should be named '2026-02'"):
        run_init(drops, tmp_path / "project", force=False)


CITIES = {
    "German": ["Zürich", "Köln", "„Genève“ – für 5 €", "München"],
    "Latin": ["Zürich", "Köln", "Genève", "España"],
    "Japanese": ["東京都", "広告バナー", "名古屋市のサイト", "大阪"],
    "Russian": ["Санкт-Петербург", "Москва", "Казань", "Новосибирск"],
    "Chinese": ["北京点击广告", "上海", "广州体育新闻", "深圳"],
    "Taiwanese": ["臺北的廣告點擊", "高雄市", "新竹科學園區", "臺南"],
    "Korean": ["서울 광고 클릭", "부산", "대구 스포츠", "인천"],
}


@pytest.mark.parametrize(
    ("encoding", "cities", "expected"),
    [
        ("utf-8", "German", "utf-8"),
        ("utf-8-sig", "German", "utf-8"),
        ("utf-16", "German", "utf-16"),
        ("utf-16-le", "German", "utf-16-le"),
        ("utf-16-be", "Japanese", "utf-16-be"),
        ("utf-32", "German", "utf-32"),
        ("latin-1", "Latin", "cp1252"),
        ("cp1252", "German", "cp1252"),
        ("shift_jis", "Japanese", "cp932"),
        ("euc_jp", "Japanese", "euc_jp"),
        ("cp1251", "Russian", "cp1251"),
        ("koi8_r", "Russian", "koi8_r"),
        ("gb18030", "Chinese", "gb18030"),
        ("big5", "Taiwanese", "big5"),
        ("euc_kr", "Korean", "euc_kr"),
    ],
)
@pytest.mark.parametrize("rows", [400, 6_000])
def test_the_encoding_is_found(tmp_path: Path, encoding: str, cities: str, expected: str, rows: int) -> None:
    columns = click_log(rows)
    columns["city"] = [CITIES[cities][row % 5] if row % 5 < 4 else "Bern" for row in range(rows)]
    path = write_csv(tmp_path / "log.csv", columns)
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    found = sample(path)
    assert found.encoding == expected
    assert set(found.cells[found.columns.index("city")]) == {*CITIES[cities], "Bern"}
    assert (found.rows, found.bad_rows) == (rows, 0)
    assert found.estimated_rows == pytest.approx(rows, rel=0.1)
    told = [warning for warning in found.warnings if expected in warning and repr(CITIES[cities][0]) in warning]
    assert bool(told) != expected.startswith("utf"), "a guess is told with an example"


def test_the_encoding_is_written_to_the_config(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "log.csv", click_log(300))
    path.write_bytes(path.read_text().encode("utf-16"))
    result = run_init(path, tmp_path / "project", force=False)
    assert load_config(result.config_path).csv.encoding == "utf-16"


def test_a_mark_of_utf_8_outweighs_damage(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "log.csv", click_log(300))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"desktop", b"\xfcber"))
    found = sample(path)
    assert found.encoding == "utf-8" and found.bad_rows > 50


def test_files_of_two_encodings_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", click_log())
    (tmp_path / "b.csv").write_bytes((tmp_path / "a.csv").read_text().encode("utf-16"))
    with pytest.raises(ConfigError, match=r"a\.csv: is UTF-8; .*b\.csv: is UTF-16"):
        run_init(tmp_path, tmp_path / "project", force=False)


def test_a_long_header_with_a_late_quote_and_a_line_end(tmp_path: Path) -> None:
    columns = click_log()
    names = [f"a_quite_long_name_of_a_column_{number}" for number in range(9)]
    columns = {
        **dict.fromkeys(names, columns["device_type"]),
        "size, px\nand more": columns["ad_position"],
        **columns,
    }
    result, _ = initialise(tmp_path, columns)
    assert "size, px\nand more" in sample(tmp_path / "log.csv").columns
    assert len(result.columns) == len(columns)


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
        ("log.csv", b"clicked,device,device\n1,a,b\n0,a,b\n", "'device' twice"),
        ("log.csv", b"clicked,,user\n" + b"1,a,x\n0,b,x\n" * 50, "no column is left to learn from"),
        ("log.csv.gz", b"not gzip", "readable row"),
        ("log.orc", b"ORC", r"no CSV or Parquet file"),
        ("log.parquet", b"PAR1", r"log\.parquet: cannot be read as Parquet"),
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


def test_parquet_is_taken_for_what_csv_is(tmp_path: Path) -> None:
    columns = click_log()
    in_csv = sample(write_csv(tmp_path / "csv" / "log.csv", columns))
    typed = {name: np.asarray(values) for name, values in columns.items()}
    typed["timestamp"] = np.array(columns["timestamp"], "datetime64[us]")
    (tmp_path / "parquet").mkdir()
    frame = pd.DataFrame(typed, index=np.arange(ROWS) * 3)
    frame.to_parquet(tmp_path / "parquet" / "log.parquet", row_group_size=1_000)
    in_parquet = sample(tmp_path / "parquet")
    assert in_parquet.estimated_rows == in_parquet.rows == in_csv.rows == ROWS
    assert set(in_parquet.columns) - set(in_csv.columns) == {""}
    for name in set(in_csv.columns) - {"timestamp"}:
        cells = in_parquet.cells[in_parquet.columns.index(name)]
        assert [float(cell) if name == "bid_price" else cell for cell in cells] == [
            float(cell) if name == "bid_price" else cell for cell in in_csv.cells[in_csv.columns.index(name)]
        ]
    result = run_init(tmp_path / "parquet", tmp_path / "project", force=False)
    assert {column.name: column.role for column in result.columns} == {
        column.name: column.role for column in run_init(tmp_path / "csv", tmp_path / "other", force=False).columns
    }
    assert 100 <= sample(tmp_path / "parquet", max_rows=200).rows <= 400


def test_months_of_two_forms_are_not_guessed_together(tmp_path: Path) -> None:
    write_csv(tmp_path / "drops" / "2026-01" / "log.csv", click_log(300))
    (tmp_path / "drops" / "2026-02").mkdir()
    pd.DataFrame(click_log(300)).to_parquet(tmp_path / "drops" / "2026-02" / "log.parquet")
    with pytest.raises(ConfigError, match=r"holds CSV \(.*log\.csv\) and Parquet \(.*log\.parquet\)"):
        run_init(tmp_path / "drops", tmp_path / "project", force=False)
