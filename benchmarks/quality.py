"""Quality against what a user would pick instead, on rows that no model has seen.

On (a) sample data of known truth, (b) real logs, and (c) the real logs' rows with labels drawn from boosted trees,
where the truth is known again. Every model trains on the same rows, stops and chooses its settings by the same
validation rows, and is scored on the same test rows; where the truth is known, against it. What is concluded rests on
the paired difference, seed by seed, and its standard error.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated

os.environ["TF_USE_LEGACY_KERAS"] = "0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OrdinalEncoder

from adclick.components.ad_example_gen.sources import SUFFIXES
from adclick.models.fitting import fit, predict
from adclick.models.soft_metrics import expected_calibration_error, soft_metrics
from adclick.models.trainer import TrainingData
from adclick.models.training_data import Columns
from adclick.pipeline.config.settings import load_config
from adclick.pipeline.onboarding import run_init
from adclick.pipeline.runs.comparison import one_hot, rows_of_new_ads
from adclick.pipeline.sample_data.generator import write_sample_data
from adclick.schema.errors import AdclickError, ConfigError
from benchmarks.measure import Result, machine, report
from benchmarks.paired import PairedDifference, Verdict, best_of, mean_and_standard_error, paired_difference
from benchmarks.prepared import (
    Impressions,
    Split,
    fingerprint,
    ingest,
    inputs_by_kind,
    order_of_content,
    random_split,
    transform,
    write_for_rivals,
)
from benchmarks.rival_environment import RIVALS as RIVALS_FOLDER
from benchmarks.rival_environment import run_rival

Floats = npt.NDArray[np.float64]

OURS, WITHOUT_IMAGES, LOGISTIC_REGRESSION = "adclick", "adclick without images", "logistic regression"
WITHOUT_TEXTS = "adclick without texts"
#: What tabular data is usually given to; DeepCTR's networks, far slower, take part where they are named.
USUAL_RIVALS = ("lightgbm", "lightgbm_target_encoding", "catboost")
RIVALS = (*USUAL_RIVALS, "dcn", "deepfm")
PARTS = ("sample", "control", "real", "trees")
#: Metrics of the paired differences, and whether a lower one is better.
METRICS = {"log_loss": True, "auc": False}
_STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_ROWS_TO_CHOOSE_STRENGTH = 100_000
_SLICE_ROWS = 1_000
#: Fewer impressions of sample data cannot teach what is asked of so many.
_ROWS_OF_TARGET = 450_000
_TEACHER_CATEGORIES = 200

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Score:
    """One model's score on one seed of one data set.

    Attributes:
        data: The data set.
        rows: All of its rows.
        seed: Of the split and the model.
        model: The model or the reference.
        auc: On the test rows, as all metrics.
        log_loss: In nats.
        normalised_entropy: Log loss over the entropy of the test rows' click rate.
        calibration_ratio: Mean prediction over mean truth.
        calibration_error: Over ten bins of the prediction.
        worst_slice_calibration_error: Of the slices with enough rows; NaN without one.
        new_ads_auc: On the rows of ads that the model does not know; NaN without them.
        new_ads_log_loss: The same.
        seconds: To train and to predict.
        rows_key: Changes with the rows that were trained on, validated and tested, and with the rivals' code.
    """

    data: str
    rows: int
    seed: int
    model: str
    auc: float
    log_loss: float
    normalised_entropy: float
    calibration_ratio: float
    calibration_error: float
    worst_slice_calibration_error: float
    new_ads_auc: float
    new_ads_log_loss: float
    seconds: float
    rows_key: str


#: What is shown and, but for the seconds, measured on the test rows.
_SHOWN = tuple(field.name for field in fields(Score) if field.name not in ("data", "rows", "seed", "model", "rows_key"))


@dataclass(frozen=True)
class Task:
    """A data set as the models get it.

    Attributes:
        name: What it is called.
        seed: Seeds the split and the models.
        impressions: All rows.
        split: How they are parted.
        clicked: The labels of all rows.
        truth: What predictions of the test rows are scored against.
        references: Known predictions of the test rows, by name.
    """

    name: str
    seed: int
    impressions: Impressions
    split: Split
    clicked: npt.NDArray[np.float32]
    truth: Floats
    references: Mapping[str, Floats]


def sample_task(seed: int, rows: int, creatives: int, folder: Path, *, image_effect: bool = True) -> Task:
    """(a): generated months, parted by the product's own ingestion, of known truth."""
    write_sample_data(folder, rows=rows, creatives=creatives, months=3, seed=seed, image_effect=image_effect)
    impressions = ingest(load_config(folder / "config.yaml"), folder / "ingested")
    split = impressions.split
    truth = pd.concat([pd.read_parquet(path) for path in sorted((folder / "truth").glob("*.parquet"))])
    identifiers = impressions.frame["impression_id"].iloc[split.test]
    known = truth.set_index("impression_id").loc[list(identifiers)]
    clicked = impressions.clicked
    references = {
        "the truth": known["probability"].to_numpy(),
        "the truth without images": known["probability_without_image"].to_numpy(),
        "best attainable": known["probability_attainable"].to_numpy(),
        "training click rate": np.full(len(known), float(clicked[split.train].mean())),
    }
    name = f"sample data, {rows:,} rows" + ("" if image_effect else ", images without effect")
    return Task(name, seed, impressions, split, clicked, references["the truth"], references)


@dataclass(frozen=True)
class Log:
    """A real click log.

    Attributes:
        name: What it is called.
        path: What `adclick init` reads: a CSV file, a folder of them, or a folder of months.
        label: The CSV column that says what is to be predicted; None leaves it to `adclick init`.
    """

    name: str
    path: Path
    label: str | None = None


def parse_log(text: str) -> Log:
    """Reads NAME=PATH or NAME=PATH:LABEL; raises `ConfigError`."""
    name, sign, rest = text.partition("=")
    path, colon, label = rest.rpartition(":")
    if not sign or not name or not rest:
        raise ConfigError(f"--log {text}: must be NAME=PATH or NAME=PATH:LABEL")
    # A colon may belong to the path.
    if Path(rest).exists() or not colon:
        path, label = rest, ""
    if not Path(path).exists():
        raise ConfigError(f"--log {text}: {path}: no such file or folder")
    return Log(name, Path(path), label or None)


def logs_in(folder: Path) -> list[Log]:
    """The logs of a folder, each a file or a folder of its own; what is neither is told and passed over.

    Raises:
        ConfigError: There is no such folder or no log in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    logs = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() or path.name.endswith(SUFFIXES):
            logs.append(Log(path.name.partition(".")[0], path))
        else:
            print(f"{path}: passed over: neither a folder nor one of {', '.join(SUFFIXES)}", flush=True)
    if not logs:
        raise ConfigError(f"{folder}: holds no click log", "Give a folder with a file or a folder per log.")
    return logs


def real_tasks(log: Log, seeds: Sequence[int], parts: Sequence[str], folder: Path) -> Iterator[Task]:
    """(b) and (c): real rows, parted anew by each seed; then the same with labels drawn from boosted trees.

    Raises:
        AdclickError: The log cannot be read.
    """
    result = run_init(log.path.resolve(), folder / "project", force=True, label=log.label)
    impressions = ingest(load_config(result.config_path), folder / "ingested")
    clicked = impressions.clicked
    print(f"{log.name}: {len(clicked):,} rows, {int(clicked.sum()):,} clicks, {_described(impressions)}", flush=True)
    teacher = _teacher(impressions) if "trees" in parts else np.zeros(0)
    order = order_of_content(impressions)
    for seed in seeds:
        split = random_split(len(clicked), seed, order=order)
        if "real" in parts:
            rate = {"training click rate": np.full(len(split.test), float(clicked[split.train].mean()))}
            yield Task(log.name, seed, impressions, split, clicked, clicked[split.test].astype(np.float64), rate)
        if "trees" in parts:
            drawn = (np.random.default_rng(seed).random(len(teacher)) < teacher).astype(np.float32)
            rate = {"training click rate": np.full(len(split.test), float(drawn[split.train].mean()))}
            references = {"the truth": teacher[split.test], **rate}
            name = f"{log.name}, labels from trees"
            yield Task(name, seed, impressions, split, drawn, teacher[split.test], references)


def _described(impressions: Impressions) -> str:
    categories, quantities = inputs_by_kind(impressions)
    return f"{categories.shape[1]} categories and {quantities.shape[1]} quantities"


def _teacher(impressions: Impressions) -> Floats:
    """Click probabilities of boosted trees fitted to all rows."""
    categories, quantities = inputs_by_kind(impressions)
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, max_categories=_TEACHER_CATEGORIES, dtype=np.float64
    )
    texts = encoder.fit_transform(categories.where(categories.notna(), "missing"))
    values = np.concatenate([texts, quantities.to_numpy()], axis=1)
    trees = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.05, min_samples_leaf=40, random_state=0)
    return trees.fit(values, impressions.clicked).predict_proba(values)[:, 1].astype(np.float64)


def score_all(task: Task, folder: Path, rivals: Sequence[str], known: Sequence[Score] = ()) -> list[Score]:
    """Trains every model and scores it, beside the references.

    Args:
        task: The data set.
        folder: For what is written on the way.
        rivals: Of `RIVALS`, those to train.
        known: Earlier scores; a rival's on the same rows is taken from them.
    """
    key = hashlib.sha256(f"{fingerprint(task.impressions, task.split, task.clicked)} {_rivals_version()}".encode())
    rows_key = key.hexdigest()[:16]
    reused = [score for score in known if score.model in rivals and score.rows_key == rows_key]
    data, test = transform(task.impressions, task.split, folder / "ours")
    data = replace(
        data,
        train=replace(data.train, clicked=task.clicked[task.split.train]),
        validation=replace(data.validation, clicked=task.clicked[task.split.validation]),
    )
    write_for_rivals(task.impressions, task.split, task.clicked, folder / "rivals")
    models: dict[str, Callable[[], Floats]] = {OURS: lambda: _ours(task, data, test, with_images=True)}
    if data.store is not None:
        models[WITHOUT_IMAGES] = lambda: _ours(task, data, test, with_images=False)
    if data.layout.texts:
        models[WITHOUT_TEXTS] = lambda: _ours(task, data, test, with_images=True, with_texts=False)
    models[LOGISTIC_REGRESSION] = lambda: _logistic_regression(data, test)
    for rival in [rival for rival in rivals if rival not in {score.model for score in reused}]:
        models[rival] = lambda rival=rival: (
            run_rival(  # type: ignore[misc]
                rival, folder / "rivals", folder / rival, seed=task.seed
            ).predictions
        )
    predictions = {name: (values, 0.0) for name, values in task.references.items()}
    for name, model in models.items():
        start = time.perf_counter()
        try:
            values = model()
        except AdclickError as error:
            # It has no score, which loses to every other.
            print(f"{task.name}, seed {task.seed}: {name}: {error}", flush=True)
            values = np.full(len(task.truth), np.nan)
        predictions[name] = (values, time.perf_counter() - start)
    new = rows_of_new_ads(task.impressions.config, data.layout, test)
    scores = [_score(task, name, values, seconds, new, rows_key) for name, (values, seconds) in predictions.items()]
    scores += [replace(score, data=task.name, seed=task.seed) for score in reused]
    for score in scores:
        print(json.dumps(asdict(score)), flush=True)
    return scores


def _ours(task: Task, data: TrainingData, test: Columns, *, with_images: bool, with_texts: bool = True) -> Floats:
    config = task.impressions.config
    has_image = with_images and data.layout.has_image
    store = data.store if has_image else None
    training = config.training.model_copy(update={"seed": task.seed})
    layout = replace(data.layout, has_image=has_image)
    train, validation = data.train, data.validation
    if not with_texts:
        layout = replace(layout, texts=())
        train, validation, test = (replace(columns, texts=None) for columns in (train, validation, test))
    result = fit(train, validation, store, layout, config.network, training, config.ingestion.image_size)
    return predict(result.network, test, store).astype(np.float64)


def _logistic_regression(data: TrainingData, test: Columns) -> Floats:
    train, validation = one_hot(data.layout, data.train), one_hot(data.layout, data.validation)
    clicked = data.train.clicked
    # The strength is chosen on some of the rows, the newest.
    some = max(0, len(clicked) - _ROWS_TO_CHOOSE_STRENGTH)

    def loss(strength: float) -> float:
        model = LogisticRegression(C=strength, max_iter=200).fit(train[some:], clicked[some:])
        return soft_metrics(data.validation.clicked, model.predict_proba(validation)[:, 1]).log_loss

    best = min(_STRENGTHS, key=loss)
    model = LogisticRegression(C=best, max_iter=200).fit(train, clicked)
    return model.predict_proba(one_hot(data.layout, test))[:, 1].astype(np.float64)


def _rivals_version() -> str:
    """Changes with the rivals' code and packages."""
    return " ".join(
        hashlib.sha256((RIVALS_FOLDER / name).read_bytes()).hexdigest() for name in ("train.py", "requirements.lock")
    )


def _score(task: Task, model: str, values: Floats, seconds: float, new: npt.NDArray[np.bool_], rows_key: str) -> Score:
    none = float("nan")
    if not np.isfinite(values).all():
        scores = dict.fromkeys(_SHOWN, none) | {"seconds": seconds}
        return Score(task.name, len(task.clicked), task.seed, model, **scores, rows_key=rows_key)
    overall = soft_metrics(task.truth, values)
    on_new = soft_metrics(task.truth[new], values[new]) if new.sum() > 1 else None
    return Score(
        data=task.name,
        rows=len(task.clicked),
        seed=task.seed,
        model=model,
        auc=overall.auc,
        log_loss=overall.log_loss,
        normalised_entropy=overall.normalised_entropy,
        calibration_ratio=overall.calibration_ratio,
        calibration_error=expected_calibration_error(task.truth, values),
        worst_slice_calibration_error=max(_slice_errors(task, values), default=none),
        new_ads_auc=on_new.auc if on_new else none,
        new_ads_log_loss=on_new.log_loss if on_new else none,
        seconds=seconds,
        rows_key=rows_key,
    )


def _slice_errors(task: Task, values: Floats) -> Iterator[float]:
    """The calibration error of every value of every evaluation slice of one column with enough rows."""
    test = task.impressions.frame.iloc[task.split.test]
    for columns in task.impressions.config.evaluation.slices:
        if len(columns) != 1 or columns[0] not in test:
            continue
        for rows in test.reset_index(drop=True).groupby(columns[0]).indices.values():
            if len(rows) > _SLICE_ROWS:
                yield expected_calibration_error(task.truth[rows], values[rows])


def differences(scores: Sequence[Score], metric: str) -> dict[tuple[str, str], PairedDifference]:
    """Ours minus each rival, by data set and rival."""
    by_seed: dict[tuple[str, str], dict[int, float]] = {}
    for score in scores:
        by_seed.setdefault((score.data, score.model), {})[score.seed] = getattr(score, metric)
    rivals = (WITHOUT_IMAGES, WITHOUT_TEXTS, LOGISTIC_REGRESSION, *RIVALS)
    lower = METRICS.get(metric, "log_loss" in metric)
    return {
        (data, model): paired_difference(by_seed[data, OURS], values, lower_is_better=lower)
        for (data, model), values in by_seed.items()
        if model in rivals and (data, OURS) in by_seed
    }


def summarise(scores: Sequence[Score]) -> None:
    """Prints two tables a data set: mean ± standard error over the seeds, and ours minus each rival, paired by seed."""
    console = Console(width=150)
    paired = {metric: differences(scores, metric) for metric in METRICS}
    for data in dict.fromkeys(score.data for score in scores):
        part = [score for score in scores if score.data == data]
        seeds = len({score.seed for score in part})
        table = Table(title=f"{data}: {seeds} seeds", title_justify="left", show_edge=False)
        table.add_column("model")
        for name in _SHOWN:
            table.add_column(name.replace("_", " "), justify="right")
        for model in dict.fromkeys(score.model for score in part):
            rows = [score for score in part if score.model == model]
            cells = []
            for name in _SHOWN:
                digits = 1 if name == "seconds" else 5 if "log_loss" in name else 4
                mean, error = mean_and_standard_error([getattr(score, name) for score in rows])
                cells.append("" if np.isnan(mean) else f"{mean:.{digits}f}\n± {error:.{digits}f}")
            table.add_row(model, *cells)
        console.print(table)
        table = Table(title=f"{data}: adclick minus the rival, {seeds} seeds", title_justify="left", show_edge=False)
        table.add_column("rival")
        for metric in METRICS:
            table.add_column(metric.replace("_", " "), justify="right")
            table.add_column("adclick is")
        for model in [model for of_data, model in paired["log_loss"] if of_data == data]:
            found = [paired[metric][data, model] for metric in METRICS]
            shown = [(f"{one.mean:+.5f} ± {one.standard_error:.5f}", one.verdict.value) for one in found]
            table.add_row(model, *[cell for pair in shown for cell in pair])
        console.print(table)
        console.print()
    console.print(machine())


def results(scores: Sequence[Score]) -> list[Result]:
    """What the scores say of each claim; a comparison's ratio is the mean gain in its standard errors."""
    found: list[Result] = []
    won: list[bool] = []
    for data in dict.fromkeys(score.data for score in scores):
        part = [score for score in scores if score.data == data]
        models = list(dict.fromkeys(score.model for score in part))
        others = [model for model in models if model in (LOGISTIC_REGRESSION, *RIVALS)]
        if WITHOUT_IMAGES in models and "without effect" in data:
            found.append(_against(part, WITHOUT_IMAGES, "log_loss", "<= 1"))
            continue
        is_known = "best attainable" in models
        if is_known:
            found += _attained(part)
        if WITHOUT_TEXTS in models:
            found.append(_against(part, WITHOUT_TEXTS, "log_loss", ">= 2"))
        if WITHOUT_IMAGES in models:
            best = best_of(_means(part, [WITHOUT_IMAGES, *others], "new_ads_log_loss"), lower_is_better=True)
            if best is not None:
                found.append(_against(part, best, "new_ads_log_loss", ">= 1"))
        for metric, lower in METRICS.items():
            best = best_of(_means(part, others, metric), lower_is_better=lower)
            if best is not None:
                target = ">= 0" if is_known and metric == "log_loss" else ">= -1"
                found.append(_against(part, best, metric, target))
        if others:
            paired = differences(part, "log_loss")
            won.append(all(paired[data, model].verdict is Verdict.BETTER for model in others))
    if won:
        name = "data sets on which adclick's log loss is better than every rival's by a standard error, of all"
        found.append(Result(name, float(sum(won)), float(len(won)), "", sum(won) / len(won), "> 0.5"))
    return found


def _means(part: Sequence[Score], models: Sequence[str], metric: str) -> dict[str, float]:
    """The mean over the seeds by model, NaN where one is."""
    return {
        model: float(np.mean([getattr(score, metric) for score in part if score.model == model])) for model in models
    }


def _attained(part: Sequence[Score]) -> Iterator[Result]:
    """What was gained of what is attainable, and the calibration, where the truth is known."""
    data = part[0].data
    entropy = _means(part, ["training click rate", "best attainable", OURS], "normalised_entropy")
    gap = entropy["training click rate"] - entropy["best attainable"]
    closed = entropy["training click rate"] - entropy[OURS]
    name = f"{data}: normalised entropy gained of what is attainable"
    yield Result(name, closed, gap, "", closed / gap, ">= 0.9" if part[0].rows >= _ROWS_OF_TARGET else "")
    for metric in ("calibration_error", "worst_slice_calibration_error"):
        value = _means(part, [OURS], metric)[OURS]
        name = f"{data}: {metric.replace('_', ' ')} against the bound"
        yield Result(name, value, 0.01, "", value / 0.01, "<= 1")


def _against(part: Sequence[Score], other: str, metric: str, target: str) -> Result:
    """Ours beside another model: the mean gain over the seeds in its standard errors, without a target of one seed."""
    data = part[0].data
    paired = differences(part, metric)[data, other]
    means = _means(part, [OURS, other], metric)
    name = (
        f"{data}: {metric.replace('_', ' ')} against {other}: {paired.mean:+.5f} ± {paired.standard_error:.5f}, "
        f"{paired.seeds} seeds"
    )
    return Result(name, means[OURS], means[other], "", paired.gain_in_errors, target if paired.seeds > 1 else "")


@app.command()
def main(
    rows: Annotated[int, typer.Option(help="Impressions of the sample data.")] = 500_000,
    creatives: Annotated[int, typer.Option(help="Its distinct images.")] = 3_000,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds, of data and models alike.")] = 8,
    first_seed: Annotated[int, typer.Option(min=1, help="The first of them.")] = 1,
    control_rows: Annotated[
        int, typer.Option(help="Impressions of the sample data whose images have no effect.")
    ] = 60_000,
    real_data: Annotated[
        Path | None, typer.Option(help="A folder of real click logs, each a file or a folder that adclick init reads.")
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=PATH or NAME=PATH:LABEL, several times: a click log that adclick init reads, and the column to "
            "predict where it is not the one that init finds."
        ),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Some of {', '.join(PARTS)}, several times; all of them by default. trees: the rows of the real logs "
            "with labels drawn from boosted trees."
        ),
    ] = None,
    rivals: Annotated[bool, typer.Option(help="Whether others than logistic regression take part.")] = True,
    rival: Annotated[
        list[str] | None,
        typer.Option(help=f"One of {', '.join(RIVALS)}, several times; {', '.join(USUAL_RIVALS)} by default."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the results.")] = None,
    scores_file: Annotated[Path | None, typer.Option("--scores", help="Where to write every score.")] = None,
    known_file: Annotated[
        Path | None,
        typer.Option(
            "--known", help="Scores of an earlier call: rivals are not trained again on rows that they were trained on."
        ),
    ] = None,
) -> None:
    """Train everything on every data set and seed, and print paired differences and what they say."""
    chosen_rivals = tuple(rival or USUAL_RIVALS) if rivals else ()
    parts = tuple(part or PARTS)
    for given, valid in ((chosen_rivals, RIVALS), (parts, PARTS)):
        unknown = set(given) - set(valid)
        if unknown:
            raise typer.BadParameter(f"{', '.join(sorted(unknown))}: not one of {', '.join(valid)}")
    try:
        logs = [*(logs_in(real_data) if real_data is not None else []), *map(parse_log, log or ())]
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None
    numbers = range(first_seed, first_seed + seeds)
    known = [] if known_file is None else [Score(**line) for line in json.loads(known_file.read_text(encoding="utf-8"))]
    scores: list[Score] = []

    def run(task: Task, folder: Path, models: Sequence[str]) -> None:
        scores.extend(score_all(task, folder, models, known))
        if scores_file is not None:
            scores_file.write_text(json.dumps([asdict(score) for score in scores], indent=1), encoding="utf-8")

    for seed in numbers if "sample" in parts else ():
        with tempfile.TemporaryDirectory(prefix="adclick-quality-") as work:
            run(sample_task(seed, rows, creatives, Path(work) / "data"), Path(work) / "models", chosen_rivals)
    for seed in numbers if "control" in parts else ():
        with tempfile.TemporaryDirectory(prefix="adclick-quality-") as work:
            task = sample_task(seed, control_rows, 800, Path(work) / "data", image_effect=False)
            run(task, Path(work) / "models", ())
    unread = []
    for real in logs if {"real", "trees"} & {*parts} else ():
        with tempfile.TemporaryDirectory(prefix="adclick-quality-") as work:
            try:
                for number, task in enumerate(real_tasks(real, numbers, parts, Path(work) / "data")):
                    run(task, Path(work) / f"models-{number}", chosen_rivals)
                    shutil.rmtree(Path(work) / f"models-{number}")
            except AdclickError as error:
                # The other logs are judged all the same.
                unread.append(real.name)
                print(f"{real.name}: not judged: {error}", flush=True)
    summarise(scores)
    report("quality", results(scores), json_file)
    if unread:
        print(f"Not judged: {', '.join(unread)}.")
        raise typer.Exit(ConfigError.exit_code)


if __name__ == "__main__":
    app()
