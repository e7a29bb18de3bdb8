"""The monitor's parts: distances and their noise, clicks, and the join."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from scipy.spatial.distance import jensenshannon
from tensorflow_metadata.proto.v0 import schema_pb2

from adclick.pipeline.config.monitoring import MonitoringSettings
from adclick.pipeline.console import plain_console
from adclick.pipeline.monitor.baseline import CategoricalBaseline, NumericBaseline, TrafficBaseline
from adclick.pipeline.monitor.checks import Check, check, performance
from adclick.pipeline.monitor.clicks import ClickJoin, Named, impression_keys, read_named, request_keys
from adclick.pipeline.monitor.command import find_files
from adclick.pipeline.monitor.distances import jensen_shannon, l_infinity
from adclick.pipeline.monitor.report import MonitorReport, print_report, version_reports
from adclick.pipeline.monitor.traffic import LogCounts, ServedTraffic, read_log
from adclick.schema.errors import ConfigError, DataRefused
from adclick.schema.feature_table import FeatureTable, parse_feature_table
from adclick.schema.times import moment_of, seconds_of

FEATURES = parse_feature_table(
    {
        "clicked": {"role": "label"},
        "site": {"role": "categorical"},
        "price": {"role": "numeric"},
    }
)
SHARES = np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02])
VALUES = [b"v%d" % number for number in range(len(SHARES))]
TRAINING_ROWS = 50_000


class TestDistances:
    def test_l_infinity_is_tfdvs(self) -> None:
        schema = schema_pb2.Schema()
        text_format.Parse(
            'feature { name: "site" type: BYTES skew_comparator { infinity_norm { threshold: 0.01 } } }', schema
        )
        training, traffic = {b"a": 60.0, b"b": 40.0}, {b"a": 30.0, b"b": 50.0, b"c": 20.0}

        def statistics(counts: dict[bytes, float]) -> Any:
            texts = [value.decode() for value, count in counts.items() for _ in range(int(count))]
            return tfdv.generate_statistics_from_dataframe(pd.DataFrame({"site": texts}))

        anomalies = tfdv.validate_statistics(
            statistics(training), schema, serving_statistics=statistics(traffic)
        ).drift_skew_info
        (measured,) = (one.value for info in anomalies for one in info.skew_measurements)
        distance, value = l_infinity(training, traffic, (100, 100), 0.01)
        assert distance.value == pytest.approx(measured)
        assert (distance.value, value) == (pytest.approx(0.3), b"a")

    def test_jensen_shannon_is_scipys(self) -> None:
        one, other = np.array([10.0, 20, 0, 5]), np.array([3.0, 3, 9, 0])
        found = jensen_shannon(one, other, (35, 15), 0.01)
        assert found.value == pytest.approx(jensenshannon(one, other, 2) ** 2)

    @pytest.mark.parametrize("size", [300, 3_000])
    def test_noise_is_exceeded_as_rarely_as_it_says(self, size: int) -> None:
        random = np.random.default_rng(5)
        rate, trials = 0.1, 1_000
        beyond = {"l_infinity": 0, "jensen_shannon": 0}
        for _ in range(trials):
            one, other = (random.multinomial(n, SHARES).astype(float) for n in (TRAINING_ROWS, size))
            sizes = (float(TRAINING_ROWS), float(size))
            names = dict(zip(VALUES, one, strict=True)), dict(zip(VALUES, other, strict=True))
            largest, _ = l_infinity(*names, sizes, rate)
            divergence = jensen_shannon(one, other, sizes, rate)
            beyond["l_infinity"] += largest.value > largest.noise
            beyond["jensen_shannon"] += divergence.value > divergence.noise
        # Bonferroni errs on the safe side; the divergence's distribution is nearly exact.
        assert beyond["l_infinity"] <= rate * trials
        assert 0.5 * rate * trials < beyond["jensen_shannon"] < 1.5 * rate * trials


def logged(random: np.random.Generator, rows: int, version: int = 1, **edits: Any) -> list[bytes]:
    """Serialized predictions, one a request; `edits` replaces columns."""
    import tensorflow as tf

    columns: dict[str, list[list[Any]]] = {
        "site": [[VALUES[place]] for place in random.choice(len(SHARES), rows, p=SHARES)],
        "price": [[value] for value in np.round(random.lognormal(size=rows), 1)],
        "click_probability": [[value] for value in random.beta(2, 50, rows)],
        "request_id": [[b"r%d" % number] for number in range(rows)],
        "logged_at": [[1_000_000 + number] for number in range(rows)],
    } | edits
    columns |= {"model_version": [[version]] * rows, "ad_index": [[0]] * rows, "context_index": [[0]] * rows}
    examples = []
    for row in range(rows):
        features = {}
        for name, lists in columns.items():
            values = lists[row]
            if name in ("price", "click_probability"):
                features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
            elif name in ("site", "request_id", "creative_status", "hashed_columns"):
                features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
            else:
                features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        examples.append(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return examples


def baseline(features: FeatureTable = FEATURES) -> TrafficBaseline:
    random = np.random.default_rng(9)
    prices = np.round(random.lognormal(size=TRAINING_ROWS), 1)
    edges = np.unique(np.quantile(prices, np.arange(1, 10) / 10))
    counts = random.multinomial(TRAINING_ROWS, SHARES)
    return TrafficBaseline(
        version=1,
        run_id="run",
        months=("2026-10",),
        features=features,
        rows=TRAINING_ROWS,
        held_out_rows=10_000,
        click_rate=2 / 52,
        missing={"site": 0.0, "price": 0.0},
        categorical={
            "site": CategoricalBaseline(
                frozenset(VALUES[:-1]), dict(zip(VALUES, counts.astype(float), strict=True)), 0.02, 0.05
            )
        },
        numeric={
            "price": NumericBaseline(
                edges, np.bincount(np.searchsorted(edges, prices, side="right")).astype(float), 0.005
            )
        },
        unknown_images=None,
        evaluation={},
    )


def traffic_of(
    folder: Path,
    examples: list[bytes],
    clicked: np.ndarray[Any, Any] | None = None,
    known: TrafficBaseline | None = None,
) -> ServedTraffic:
    import tensorflow as tf

    path = folder / "log.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example)
    traffic = ServedTraffic(1, known)
    start = 0
    for batch in read_log([path], FEATURES):
        rows = slice(start, start + len(batch))
        labels = (None, None) if clicked is None else (clicked[rows], np.ones(len(batch), bool))
        traffic.add(batch, *labels)
        start = rows.stop
    return traffic


def alarms(checks: list[Check]) -> set[tuple[str, str]]:
    return {(one.name, one.column) for one in checks if one.state == "alarm"}


class TestChecks:
    @pytest.mark.parametrize("rows", [300, 2_000])
    def test_unskewed_traffic_raises_no_alarm(self, tmp_path: Path, rows: int) -> None:
        """With thresholds so tight that chance alone would exceed them."""
        settings = MonitoringSettings(
            missing_rate=0, unknown_rate=0, mean_prediction=0, calibration_error=0, least_requests=100, least_clicks=5
        )
        known = baseline()
        raised, exceeded = [], 0
        for seed in range(10):
            random = np.random.default_rng(seed)
            examples = logged(random, rows)
            clicked = random.random(rows) < np.array(_probabilities(examples))
            found = check(traffic_of(tmp_path, examples, clicked, known), settings, has_clicks=True)
            assert {one.name for one in found if one.state != "not_judged"} >= {"drift", "calibration_ratio"}
            raised += sorted(alarms(found) - {("normalised_entropy", "")})
            exceeded += sum(one.threshold is not None and one.distance > one.threshold for one in found)
        assert raised == []
        assert exceeded > 10

    def test_each_fault_is_named(self, tmp_path: Path) -> None:
        random = np.random.default_rng(3)
        rows = 4_000
        settings, known = MonitoringSettings(), baseline()
        one_site = [[VALUES[1] if number % 3 == 0 else VALUES[0]] for number in range(rows)]
        cases = {
            ("drift", "site"): {"site": one_site},
            ("drift", "price"): {"price": [[value] for value in random.lognormal(1, size=rows)]},
            ("missing_rate", "price"): {"price": [[1.0]] * 3_000 + [[]] * 1_000},
            ("unknown_rate", "site"): {"site": [[b"new%d" % (number % 50)] for number in range(rows)]},
            ("mean_prediction", ""): {"click_probability": [[0.06]] * rows},
        }
        for expected, edit in cases.items():
            found = check(traffic_of(tmp_path, logged(random, rows, **edit), None, known), settings, has_clicks=False)
            assert expected in alarms(found), expected

    def test_a_prediction_that_is_none_alarms(self, tmp_path: Path) -> None:
        examples = logged(np.random.default_rng(3), 1_000, click_probability=[[np.nan]] + [[0.03]] * 999)
        traffic = traffic_of(tmp_path, examples, np.arange(1_000) < 30, baseline())
        found = check(traffic, MonitoringSettings(), has_clicks=True)
        assert ("mean_prediction", "") in alarms(found)

    @pytest.mark.parametrize(("rate", "is_alarm"), [(0.0, True), (0.5, True), (1.0, False), (2.0, True)])
    def test_clicks_judge_the_calibration(self, tmp_path: Path, rate: float, is_alarm: bool) -> None:
        random = np.random.default_rng(4)
        examples = logged(random, 8_000)
        clicked = random.random(8_000) < rate * np.array(_probabilities(examples))
        traffic = traffic_of(tmp_path, examples, clicked)
        found = check(traffic, MonitoringSettings(), has_clicks=True)
        assert (("calibration_ratio", "") in alarms(found)) == is_alarm
        measured = performance(traffic, 20)
        assert measured is not None and measured.clicks == clicked.sum()
        if rate:
            ratio = measured.metrics["calibration_ratio"]
            assert ratio.lower is not None and ratio.upper is not None
            assert ratio.lower < 1 / rate < ratio.upper

    def test_few_requests_are_not_judged(self, tmp_path: Path) -> None:
        examples = logged(np.random.default_rng(1), 150, site=[[b"new"]] * 150)
        found = check(traffic_of(tmp_path, examples, None, baseline()), MonitoringSettings(), has_clicks=False)
        assert {one.state for one in found} == {"not_judged"}

    def test_what_is_not_judged_is_not_called_in_order(self, tmp_path: Path) -> None:
        def said(rows: int) -> str:
            traffic = traffic_of(tmp_path, logged(np.random.default_rng(1), rows), None, baseline())
            versions = version_reports({1: traffic}, MonitoringSettings(), has_clicks=False)
            report = MonitorReport(0.0, LogCounts(predictions=rows), None, 86_400.0, None, versions)
            printed = io.StringIO()
            print_report(plain_console(printed), report)
            return printed.getvalue()

        assert "Not judged: no threshold could be tried" in said(150) and "In order" not in said(150)
        assert "In order: nothing that was judged" in said(2_000)

    def test_ads_of_a_request_are_one_draw(self, tmp_path: Path) -> None:
        rows = 1_000
        alone = logged(np.random.default_rng(1), rows)
        together = logged(np.random.default_rng(1), rows, request_id=[[b"r%d" % (n // 10)] for n in range(rows)])
        noises = [
            {(one.name, one.column): one.noise for one in check(traffic, MonitoringSettings(), has_clicks=False)}
            for traffic in (traffic_of(tmp_path, one, None, baseline()) for one in (alone, together))
        ]
        assert all(noises[1][key] > 2 * noises[0][key] for key in noises[0])


def _probabilities(examples: list[bytes]) -> list[float]:
    import tensorflow as tf

    return [
        tf.train.Example.FromString(one).features.feature["click_probability"].float_list.value[0] for one in examples
    ]


def read(*files: Path, **options: Any) -> Named:
    settings = {"identifier": "impression", "timed": True, "since": -np.inf, "until": np.inf}
    return read_named(files, **(settings | {"max_unreadable_share": 0.5} | options))


def test_a_path_that_is_there_is_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "a b [v1]*?"
    folder.mkdir()
    for name in ("1.csv", "2 [x].csv", ".hidden.csv", "_partial.csv", "notes.txt"):
        (folder / name).touch()
    both = [folder / "1.csv", folder / "2 [x].csv"]
    assert find_files(str(folder), "--clicks", "*.csv*") == both
    assert find_files(str(folder / "*.csv"), "--clicks", "*") == both
    assert find_files(str(both[1]), "--clicks", "*") == both[1:]
    assert find_files(str(tmp_path / "*" / "1.csv"), "--clicks", "*") == both[:1]
    with pytest.raises(ConfigError, match="no such file"):
        find_files(str(folder / "nothing*"), "--clicks", "*")


class TestClicks:
    @pytest.mark.parametrize(
        ("declared", "written"),
        [("utf-8", "utf-8-sig"), ("utf-8", "utf-16"), ("utf-16", "utf-8"), ("utf-16", "utf-16"), ("cp1252", "cp1252")],
    )
    def test_files_of_any_encoding(self, tmp_path: Path, declared: str, written: str) -> None:
        file = tmp_path / "a [1].csv"
        file.write_text("impression,click_time\nü1,1790812830\ni2,1790812831\n", encoding=written)
        found = read(file, encoding=declared)
        assert found.rows == 2
        assert found.find(impression_keys(["ü1", "i2"]))[1].all()

    def test_a_file_that_is_refused_after_its_first_rows_is_let_go_of(self, tmp_path: Path) -> None:
        # Arrow reads ahead by then: what lets go of its reader must not wait for what waits for Python.
        file = tmp_path / "a.csv"
        file.write_bytes(b"name,click_time\n" + b"i1,1790812830\n" * 300_000)
        for _ in range(10):
            with pytest.raises(ConfigError, match="has neither a column"):
                read(file)

    def test_a_name_that_cannot_be_decoded_is_unreadable(self, tmp_path: Path) -> None:
        file = tmp_path / "a.csv"
        file.write_bytes(b"impression,click_time\n\xff1,1790812830\ni2,1790812831\n")
        found = read(file)
        assert (found.rows, found.unreadable) == (2, 1)

    def test_names_and_times_of_every_form(self, tmp_path: Path) -> None:
        first, second = tmp_path / "a.csv", tmp_path / "b.csv.gz"
        first.write_text(
            "click_time,impression,extra\n"
            "2026-10-01T00:00:10Z,i1,x\n2026-10-01T02:00:05+02:00,i1,x\n1790812830,i2,\n1790812840.5,i3,x\n"
            "soon,i4,x\n,i5,x\n2026-10-01,,x\n2026-10-01,i6\n"
        )
        with gzip.open(second, "wt") as stream:
            stream.write(
                "request_id,ad_index,context_index,click_time\nr1,0,,2026-10-01\nr1,2,1,2026-10-01\nr1,x,1,1\n"
            )
        found = read(first, second)
        assert (found.rows, found.unreadable, found.duplicates) == (11, 5, 1)
        keys = np.concatenate([impression_keys(["i1", "i2", b"i3"]), request_keys(["r1", "r1"], [0, 1], [0, 2])])
        places, is_named = found.find(keys)
        assert is_named.all() and len(found.keys) == 5
        start = 1_790_812_800.0
        np.testing.assert_allclose(found.times[places], [start + 5, start + 30, start + 40.5, start, start])
        assert found.newest == start + 40.5
        assert found.by == {"impression_id", "request_id"}
        assert not found.find(impression_keys(["i4", "r1"]))[1].any()

    def test_too_many_unreadable_rows_are_refused_and_the_first_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / "clicks.csv"
        file.write_text("impression_id,click_time\na,1\nb,never\nc,2\n")
        with pytest.raises(DataRefused, match=r"1 of 3 rows .*clicks\.csv, line 3: impression_id 'b'"):
            read(file, max_unreadable_share=0.1)

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("id,click_time\na,1\n", "neither a column impression_id nor request_id and ad_index"),
            ("impression_id,time\na,1\n", "no column click_time"),
            ("", "cannot be read as CSV"),
        ],
    )
    def test_a_file_without_the_columns_is_named(self, tmp_path: Path, text: str, error: str) -> None:
        file = tmp_path / "clicks.csv"
        file.write_text(text)
        with pytest.raises(ConfigError, match=error):
            read(file)

    def test_labels(self) -> None:
        keys = np.sort(impression_keys(["a", "b", "c", "d"]))
        by_name = {name: impression_keys([name])[0] for name in "abcde"}
        times = {by_name["a"]: 150.0, by_name["b"]: 1_000.0, by_name["c"]: 20.0, by_name["d"]: 90.0}
        clicks = Named(keys, np.array([times[key] for key in keys]), 1_000.0, rows=4, by={"impression_id"})
        join = ClickJoin(clicks, window=100, complete_until=250)
        predicted = np.array([by_name[name] for name in "abcdae"], np.uint64)
        is_clicked, has_passed = join.label([predicted], np.array([100.0, 100, 100, 100, 120, 200]))
        # d's click came ten seconds before its prediction: clocks differ. a was predicted twice.
        assert is_clicked.tolist() == [True, False, False, True, True, False]
        assert has_passed.tolist() == [True, True, True, True, True, False]
        counts = join.counts()
        assert (counts.in_time, counts.late, counts.early, counts.unmatched) == (2, 1, 1, 0)

    def test_without_clicks_nothing_is_clicked(self) -> None:
        join = ClickJoin(Named(np.zeros(0, np.uint64), np.zeros(0), -np.inf), 100, 1_000)
        is_clicked, has_passed = join.label([impression_keys(["a"])], np.array([5.0]))
        assert (is_clicked.tolist(), has_passed.tolist()) == ([False], [True])


@pytest.mark.parametrize(("text", "seconds"), [("7d", 604_800), ("1.5h", 5_400), ("90s", 90)])
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert seconds_of(text, "--click-window") == seconds
    for wrong in ("7", "d", "7 d", "-1d"):
        with pytest.raises(ConfigError, match="--click-window"):
            seconds_of(wrong, "--click-window")


def test_moments() -> None:
    assert moment_of("2026-10-01", "--since") == moment_of("2026-10-01T02:00:00+02:00", "--since") == 1_790_812_800
    with pytest.raises(ConfigError, match="--since: 'yesterday'"):
        moment_of("yesterday", "--since")


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    traffic_of(tmp_path, logged(np.random.default_rng(1), 10))
    path = tmp_path / "log.tfrecord"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataRefused, match=r"log\.tfrecord: damaged"):
        list(read_log([path], FEATURES))
    typed = parse_feature_table({"clicked": {"role": "label"}, "price": {"role": "categorical"}})
    traffic_of(tmp_path, logged(np.random.default_rng(1), 10))
    with pytest.raises(DataRefused, match="not predictions of a model with the config's columns"):
        list(read_log([path], typed))


def test_statistics_are_counted_over_batches(tmp_path: Path) -> None:
    """More predictions than a batch holds give the same as all at once."""
    random = np.random.default_rng(2)
    examples = logged(random, 10_000)
    traffic = traffic_of(tmp_path, examples, None, baseline())
    counts = traffic.value_counts("site")
    assert sum(counts.values()) == traffic.predictions == traffic.requests == 10_000
    assert traffic.unknown["site"] == counts[VALUES[-1]]
    assert traffic.bins["price"].sum() == 10_000
    assert traffic.mean_prediction == pytest.approx(np.mean(_probabilities(examples)), rel=1e-6)
