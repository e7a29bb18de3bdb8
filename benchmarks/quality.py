"""Quality against what a user would pick instead, on rows that no model has seen.

On (a) sample data of known truth, (b) real logs, and (c) the real logs' rows with labels drawn from boosted trees,
where the truth is known again. Every model trains on the same rows, stops by the same validation rows, and is scored on
the same test rows; where the truth is known, against it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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

from benchmarks.measure import Result, machine, report
from benchmarks.prepared import (
    Impressions,
    Split,
    categorical_and_numeric,
    ingest,
    random_split,
    transform,
    write_for_rivals,
)
from benchmarks.rival_environment import run_rival
from models.features import InputLayout
from models.fitting import fit, predict
from models.trainer import TrainingData
from models.training_data import Columns
from pipeline.comparison import one_hot, rows_of_new_ads
from pipeline.config import load_config
from pipeline.init import run_init
from pipeline.sample_data.generator import write_sample_data
from pipeline.sample_data.reference import expected_calibration_error, soft_metrics

Floats = npt.NDArray[np.float64]

OURS, WITHOUT_IMAGES = "adclick", "adclick without images"
RIVALS = ("lightgbm", "lightgbm_target_encoding", "dcn", "deepfm")
#: Share of the training rows, drawn at random, by which every model stops or chooses: the newest are worth too much to
#: any model to be kept from it.
VALIDATION_SHARE = 0.06
_STRENGTHS = (0.03, 0.1, 0.3)
_ROWS_TO_CHOOSE_STRENGTH = 100_000
_SLICE_ROWS = 1_000
#: Fewer impressions of sample data cannot teach what is asked of so many.
_ROWS_OF_TARGET = 450_000
_TEACHER_CATEGORIES = 200

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Score:
    """One model's score on one seed of one data set."""

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
    """(a): generated months, the last part of the newest one to score, of known truth."""
    write_sample_data(folder, rows=rows, creatives=creatives, months=3, seed=seed, image_effect=image_effect)
    impressions = ingest(load_config(folder / "config.yaml"), folder / "ingested")
    rest = np.flatnonzero(~impressions.is_held_out)
    is_validation = np.random.default_rng(seed).random(len(rest)) < VALIDATION_SHARE
    split = Split(rest[~is_validation], rest[is_validation], np.flatnonzero(impressions.is_held_out))
    truth = pd.concat([pd.read_parquet(path) for path in sorted((folder / "truth").glob("*.parquet"))])
    identifiers = impressions.frame["impression_id"].iloc[split.test]
    known = truth.set_index("impression_id").loc[list(identifiers)]
    clicked = impressions.frame["clicked"].to_numpy(np.float32)
    references = {
        "the truth": known["probability"].to_numpy(),
        "the truth without images": known["probability_without_image"].to_numpy(),
        "best attainable": known["probability_attainable"].to_numpy(),
        "training click rate": np.full(len(known), float(clicked[split.train].mean())),
    }
    name = f"sample data, {rows:,} rows" + ("" if image_effect else ", images without effect")
    return Task(name, seed, impressions, split, clicked, references["the truth"], references)


def real_tasks(name: str, sources: Sequence[Path], seeds: Sequence[int], folder: Path) -> Iterator[Task]:
    """(b) and (c): real rows, parted anew by each seed; then the same with labels drawn from boosted trees."""
    (folder / "drop").mkdir(parents=True)
    for source in sources:
        shutil.copy(source, folder / "drop" / f"{source.stem}.csv")
    result = run_init(folder / "drop", folder / "project", force=True)
    impressions = ingest(load_config(result.config_path), folder / "ingested")
    clicked = impressions.frame["clicked"].to_numpy(np.float32)
    teacher = _teacher(impressions, clicked)
    for seed in seeds:
        split = random_split(len(clicked), seed)
        rate = {"training click rate": np.full(len(split.test), float(clicked[split.train].mean()))}
        yield Task(name, seed, impressions, split, clicked, clicked[split.test].astype(np.float64), rate)
        drawn = (np.random.default_rng(seed).random(len(teacher)) < teacher).astype(np.float32)
        rate = {"training click rate": np.full(len(split.test), float(drawn[split.train].mean()))}
        references = {"the truth": teacher[split.test], **rate}
        yield Task(f"{name}, labels from trees", seed, impressions, split, drawn, teacher[split.test], references)


def _teacher(impressions: Impressions, clicked: npt.NDArray[np.float32]) -> Floats:
    """Click probabilities of boosted trees fitted to all rows."""
    categorical, numeric = categorical_and_numeric(impressions)
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, max_categories=_TEACHER_CATEGORIES, dtype=np.float64
    )
    texts = encoder.fit_transform(impressions.frame[categorical].astype(object).where(lambda f: f.notna(), "missing"))
    values = np.concatenate([texts, impressions.frame[numeric].to_numpy(np.float64)], axis=1)
    trees = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.05, min_samples_leaf=40, random_state=0)
    return trees.fit(values, clicked).predict_proba(values)[:, 1].astype(np.float64)


def score_all(task: Task, folder: Path, rivals: Sequence[str]) -> list[Score]:
    """Trains every model and scores it, beside the references."""
    data, test = transform(task.impressions, task.split, folder / "ours")
    data = replace(
        data,
        train=replace(data.train, clicked=task.clicked[task.split.train]),
        held_out=replace(data.held_out, clicked=task.clicked[task.split.validation]),
    )
    write_for_rivals(task.impressions, task.split, task.clicked, folder / "rivals")
    models: dict[str, Callable[[], Floats]] = {OURS: lambda: _ours(task, data, test, with_images=True)}
    if data.store is not None:
        models[WITHOUT_IMAGES] = lambda: _ours(task, data, test, with_images=False)
    models["logistic regression"] = lambda: _logistic_regression(data, test)
    for rival in rivals:
        models[rival] = lambda rival=rival: (
            run_rival(  # type: ignore[misc]
                rival, folder / "rivals", folder / rival, seed=task.seed
            ).predictions
        )
    predictions = {name: (values, 0.0) for name, values in task.references.items()}
    for name, model in models.items():
        start = time.perf_counter()
        predictions[name] = (model(), time.perf_counter() - start)
    new = rows_of_new_ads(task.impressions.config, data.layout, test)
    scores = [_score(task, name, values, seconds, new) for name, (values, seconds) in predictions.items()]
    for score in scores:
        print(json.dumps(asdict(score)), flush=True)
    return scores


def _ours(task: Task, data: TrainingData, test: Columns, *, with_images: bool) -> Floats:
    config = task.impressions.config
    has_image = with_images and data.layout.has_image
    store = data.store if has_image else None
    training = config.training.model_copy(update={"seed": task.seed})
    layout = InputLayout(data.layout.categories, data.layout.numbers, has_image)
    result = fit(data.train, data.held_out, store, layout, config.network, training, config.ingestion.image_size)
    return predict(result.network, test, store).astype(np.float64)


def _logistic_regression(data: TrainingData, test: Columns) -> Floats:
    train, validation = one_hot(data.layout, data.train), one_hot(data.layout, data.held_out)
    clicked = data.train.clicked
    # The strength is chosen on some of the rows, the newest.
    some = max(0, len(clicked) - _ROWS_TO_CHOOSE_STRENGTH)

    def loss(strength: float) -> float:
        model = LogisticRegression(C=strength, max_iter=200).fit(train[some:], clicked[some:])
        return soft_metrics(data.held_out.clicked, model.predict_proba(validation)[:, 1]).log_loss

    best = min(_STRENGTHS, key=loss)
    model = LogisticRegression(C=best, max_iter=200).fit(train, clicked)
    return model.predict_proba(one_hot(data.layout, test))[:, 1].astype(np.float64)


def _score(task: Task, model: str, values: Floats, seconds: float, new: npt.NDArray[np.bool_]) -> Score:
    found = soft_metrics(task.truth, values)
    on_new = soft_metrics(task.truth[new], values[new]) if new.sum() > 1 else None
    return Score(
        data=task.name,
        rows=len(task.clicked),
        seed=task.seed,
        model=model,
        auc=found.auc,
        log_loss=found.log_loss,
        normalised_entropy=found.normalised_entropy,
        calibration_ratio=found.calibration_ratio,
        calibration_error=expected_calibration_error(task.truth, values),
        worst_slice_calibration_error=max(_slice_errors(task, values), default=float("nan")),
        new_ads_auc=on_new.auc if on_new else float("nan"),
        new_ads_log_loss=on_new.log_loss if on_new else float("nan"),
        seconds=seconds,
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


def summarise(scores: Sequence[Score]) -> None:
    """Prints mean ± deviation over the seeds, a table per data set."""
    console = Console(width=150)
    frame = pd.DataFrame([asdict(score) for score in scores])
    columns = [name for name in frame.columns if name not in ("data", "rows", "seed", "model")]
    for data, part in frame.groupby("data", sort=False):
        table = Table(title=f"{data}: {part['seed'].nunique()} seeds", title_justify="left", show_edge=False)
        table.add_column("model")
        for name in columns:
            table.add_column(name.replace("_", " "), justify="right")
        for model, rows in part.groupby("model", sort=False):
            cells = []
            for name in columns:
                digits = 1 if name == "seconds" else 5 if "log_loss" in name else 4
                mean, deviation = rows[name].mean(), rows[name].std(ddof=1) if len(rows) > 1 else 0.0
                cells.append("" if np.isnan(mean) else f"{mean:.{digits}f}\n±{deviation:.{digits}f}")
            table.add_row(str(model), *cells)
        console.print(table)
    console.print(machine())


def results(scores: Sequence[Score]) -> list[Result]:
    """What the scores say of each claim; a comparison's ratio is the gain in deviations of the seeds' gains."""
    frame = pd.DataFrame([asdict(score) for score in scores])
    found: list[Result] = []
    for data, part in frame.groupby("data", sort=False):
        mean = part.groupby("model").mean(numeric_only=True)
        others = [model for model in mean.index if model in (*RIVALS, "logistic regression")]
        if WITHOUT_IMAGES in mean.index and "without effect" in str(data):
            found.append(_against(part, WITHOUT_IMAGES, "log_loss", "<= 1"))
            continue
        is_known = "best attainable" in mean.index
        if is_known:
            entropy = mean["normalised_entropy"]
            gap = entropy["training click rate"] - entropy["best attainable"]
            closed = entropy["training click rate"] - entropy[OURS]
            name = f"{data}: normalised entropy gained of what is attainable"
            target = ">= 0.9" if part["rows"].iloc[0] >= _ROWS_OF_TARGET else ""
            found.append(Result(name, closed, gap, "", closed / gap, target))
            for metric in ("calibration_error", "worst_slice_calibration_error"):
                value = float(mean[metric][OURS])
                name = f"{data}: {metric.replace('_', ' ')} against the bound"
                found.append(Result(name, value, 0.01, "", value / 0.01, "<= 1"))
        if WITHOUT_IMAGES in mean.index:
            best = min([WITHOUT_IMAGES, *others], key=lambda model: float(mean["new_ads_log_loss"][model]))
            found.append(_against(part, best, "new_ads_log_loss", ">= 1"))
        if others:
            best = min(others, key=lambda model: float(mean["log_loss"][model]))
            found.append(_against(part, best, "log_loss", ">= 0" if is_known else ">= -1"))
            best = max(others, key=lambda model: float(mean["auc"][model]))
            found.append(_against(part, best, "auc", ">= -1"))
    return found


def _against(part: pd.DataFrame, other: str, metric: str, target: str) -> Result:
    """Ours beside another model: the mean gain over the seeds, in deviations of that gain."""
    by_seed = part.pivot(index="seed", columns="model", values=metric)
    gain = by_seed[other] - by_seed[OURS] if "log_loss" in metric else by_seed[OURS] - by_seed[other]
    # Of one seed there is no deviation: the sign is all that can be said.
    deviation = float(gain.std(ddof=1)) if len(gain) > 1 else 0.0
    ratio = float(gain.mean()) / (deviation or abs(float(gain.mean())) or 1.0)
    name = f"{part['data'].iloc[0]}: {metric.replace('_', ' ')} against {other}"
    return Result(name, float(by_seed[OURS].mean()), float(by_seed[other].mean()), "", ratio, target)


@app.command()
def main(
    rows: Annotated[int, typer.Option(help="Impressions of the sample data.")] = 500_000,
    creatives: Annotated[int, typer.Option(help="Its distinct images.")] = 3_000,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds, of data and models alike.")] = 5,
    control_rows: Annotated[
        int, typer.Option(help="Impressions of the sample data whose images have no effect.")
    ] = 60_000,
    real_data: Annotated[
        Path | None, typer.Option(help="A folder of real click logs: a folder each, all its files one log.")
    ] = None,
    part: Annotated[
        list[str] | None, typer.Option(help="sample, control or real, several times; all of them by default.")
    ] = None,
    rivals: Annotated[bool, typer.Option(help="Whether LightGBM and DeepCTR take part.")] = True,
    rival: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(RIVALS)}, several times; all of them by default.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the results.")] = None,
    scores_file: Annotated[Path | None, typer.Option("--scores", help="Where to write every score.")] = None,
) -> None:
    """Train everything on every data set and seed, and print means, deviations and what they say."""
    chosen_rivals = tuple(rival or RIVALS) if rivals else ()
    unknown = set(chosen_rivals) - set(RIVALS)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: not one of {', '.join(RIVALS)}")
    parts = part or ["sample", "control", "real"]
    scores: list[Score] = []

    def run(task: Task, folder: Path, models: Sequence[str]) -> None:
        scores.extend(score_all(task, folder, models))
        if scores_file is not None:
            scores_file.write_text(json.dumps([asdict(score) for score in scores], indent=1), encoding="utf-8")

    for seed in range(1, seeds + 1) if "sample" in parts else ():
        with tempfile.TemporaryDirectory(prefix="adclick-quality-") as work:
            run(sample_task(seed, rows, creatives, Path(work) / "data"), Path(work) / "models", chosen_rivals)
    for seed in range(1, seeds + 1) if "control" in parts else ():
        with tempfile.TemporaryDirectory(prefix="adclick-quality-") as work:
            task = sample_task(seed, control_rows, 800, Path(work) / "data", image_effect=False)
            run(task, Path(work) / "models", ())
    for source in sorted(real_data.iterdir()) if real_data is not None and "real" in parts else ():
        logs = sorted(path for path in source.glob("*.*sv"))
        if not logs:
            continue
        with tempfile.TemporaryDirectory(prefix="adclick-quality-") as work:
            for number, task in enumerate(real_tasks(source.name, logs, range(1, seeds + 1), Path(work) / "data")):
                run(task, Path(work) / f"models-{number}", chosen_rivals)
    summarise(scores)
    report("quality", results(scores), json_file)


if __name__ == "__main__":
    app()
