"""What the candidate does on a bounded sample of held-out impressions: calibration, references, images, features."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import tensorflow as tf
from PIL import Image as PillowImage
from tfx.utils import path_utils

from adclick.components.ad_example_gen.executor import COUNTS_FILE
from adclick.models.creatives import OK, Creative, read_creatives
from adclick.models.description import ModelDescription, read_description
from adclick.models.explanation import Predict, column_predictor, permutation_importance
from adclick.models.images import open_upright, to_decodable
from adclick.models.preprocessing import read_vocabularies
from adclick.models.requests import parse_examples
from adclick.models.soft_metrics import SoftMetrics, soft_metrics
from adclick.models.training_data import record_datasets
from adclick.pipeline.config.settings import Config
from adclick.pipeline.report.facts import (
    Behaviour,
    CalibrationPoint,
    CreativeLift,
    Images,
    Picture,
    Reference,
    References,
)
from adclick.pipeline.runs.comparison import SERVED, as_logged
from adclick.pipeline.runs.data import held_out_files, truth_folder
from adclick.pipeline.runs.record import COMPARISON_FILE, RunRecord, wilson_interval
from adclick.pipeline.runs.record_store import record_folder
from adclick.storage import filesystem
from adclick.storage.local_copy import local_copy

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Columns = Mapping[str, Array]

#: At most so many held-out impressions are scored.
_SAMPLE_ROWS = 50_000
_IMPORTANCE_ROWS = 5_000
_LEAST_IMPORTANCE_ROWS = 1_000
_IMPORTANCE_CELLS = 200_000
#: Bounds memory where there are many columns.
_SAMPLE_CELLS = 5_000_000
_IMPORTANCE_REPEATS = 3
_BINS = 10
#: Where enough creatives have so many impressions, only those are ranked.
_OFTEN = 10
_IMAGES_SHOWN = 6
_CREATIVES_TO_READ = 50_000
_THUMBNAIL = (320, 240)
#: The 97.5 % quantile of the normal distribution.


@dataclass(frozen=True)
class HeldOutSample:
    """Some held-out impressions.

    Attributes:
        columns: The inputs of `serving_default`, [rows] or [rows, values] each.
        clicked: [rows].
        usable_image: Whether ingestion could read the impression's image [rows].
        truth: The true probabilities by name, a row each; None where they are not known.
        held_out: How many impressions there are to draw from.
    """

    columns: Columns
    clicked: npt.NDArray[np.bool_]
    usable_image: npt.NDArray[np.bool_]
    truth: pd.DataFrame | None
    held_out: int

    def __len__(self) -> int:
        return len(self.clicked)


def observe(config: Config, record: RunRecord) -> Behaviour | None:
    """Scores the sample with the candidate and the last blessed model; None if no model was trained."""
    if "ClickTrainer.model" not in record.artifacts:
        return None
    candidate = _model_folder(record, "ClickTrainer.model")
    description = read_description(candidate)
    sample = _draw(config, record, description)
    predict = column_predictor(candidate)
    served = predict(sample.columns).astype(np.float64)
    rate = description.negative_sampling_rate
    # Clicks and truth are those of the log.
    prediction = as_logged(served, rate)
    truth = None if sample.truth is None else sample.truth["probability"].to_numpy()
    baseline = None
    if "BaselineModel.model" in record.artifacts:
        earlier = column_predictor(_model_folder(record, "BaselineModel.model"))
        baseline = as_logged(earlier(sample.columns).astype(np.float64), rate)
    # What all columns cost together is each one's rows by the columns that a prediction reads.
    rows = min(len(sample), max(_LEAST_IMPORTANCE_ROWS, _IMPORTANCE_CELLS // len(sample.columns)), _IMPORTANCE_ROWS)
    part = {name: values[:rows] for name, values in sample.columns.items()}
    weights = np.where(sample.clicked[:rows], 1.0, 1 / rate)
    importance = permutation_importance(
        predict, part, sample.clicked[:rows].astype(np.float64), list(part), _IMPORTANCE_REPEATS, 0, weights
    )
    return Behaviour(
        rows=len(sample),
        rows_held_out=sample.held_out,
        calibration=calibrate(prediction, sample.clicked, truth),
        baseline_calibration=() if baseline is None else calibrate(baseline, sample.clicked, truth),
        references=_references(config, record, sample, prediction, baseline, candidate),
        images=_images(config, record, sample, predict, served),
        importance=tuple(importance),
        importance_rows=rows,
    )


def _model_folder(record: RunRecord, output: str) -> str:
    (uri,) = record.artifacts[output]
    return str(path_utils.serving_model_path(local_copy(uri)))


def _draw(config: Config, record: RunRecord, description: ModelDescription) -> HeldOutSample:
    """Every so many-th held-out impression, so that all of the held-out time is in the sample."""
    features = description.features
    newest = record.drops[-1]
    with filesystem.open_read(filesystem.join(newest.quarantine_uri, COUNTS_FILE)) as stream:
        held_out = int(json.loads(stream.read())["rows_eval"])
    step = -(-held_out // min(_SAMPLE_ROWS, _SAMPLE_CELLS // len(features.model_inputs)))
    records = tf.constant(
        [
            record
            for dataset in record_datasets(held_out_files(record))
            for record in dataset.shard(step, 0).as_numpy_iterator()
        ],
        tf.string,
    )
    columns = {name: values.numpy() for name, values in parse_examples(records, features).items()}
    spec = {features.label_name: tf.io.FixedLenFeature([], tf.int64, 0)}
    texts = [name for name in (features.identifier_name, features.image_name and features.image_status_name) if name]
    spec |= {name: tf.io.FixedLenFeature([], tf.string, "") for name in texts}
    others = {name: values.numpy() for name, values in tf.io.parse_example(records, spec).items()}
    usable = np.zeros(len(records), bool)
    if features.image_name is not None:
        usable = others[features.image_status_name] == OK.encode()
    truth = None
    if features.identifier_name is not None:
        truth = _truth(config, newest.name, others[features.identifier_name])
    return HeldOutSample(columns, others[features.label_name] == 1, usable, truth, held_out)


def _truth(config: Config, month: str, identifiers: Array) -> pd.DataFrame | None:
    """The truth that `adclick sample-data` left beside its drops, a row for each impression; None for real data."""
    folder = truth_folder(config)
    if folder is None or not (folder / f"{month}.parquet").exists():
        return None
    names = [identifier.decode("utf-8", "replace") for identifier in identifiers]
    found = pd.read_parquet(folder / f"{month}.parquet").set_index("impression_id").reindex(names)
    return None if found["probability"].isna().any() else found


def calibrate(prediction: Floats, clicked: npt.NDArray[np.bool_], truth: Floats | None) -> tuple[CalibrationPoint, ...]:
    """Sorts impressions by prediction into bins of as many each.

    Args:
        prediction: Predicted click probabilities [rows].
        clicked: Whether each was clicked [rows].
        truth: The true probabilities [rows]; None where they are not known.
    """
    parts = np.array_split(np.argsort(prediction, kind="stable"), _BINS)
    return tuple(
        CalibrationPoint(
            rows=len(part),
            predicted=float(prediction[part].mean()),
            clicked=wilson_interval(int(clicked[part].sum()), len(part)),
            truth=None if truth is None else float(truth[part].mean()),
        )
        for part in parts
        if len(part)
    )


def _references(
    config: Config, record: RunRecord, sample: HeldOutSample, prediction: Floats, baseline: Floats | None, model: str
) -> References | None:
    """What `adclick run --compare` wrote; without it the model, the last blessed one and, if known, the truth."""
    target = sample.clicked.astype(np.float64) if sample.truth is None else sample.truth["probability"].to_numpy()
    new = _is_new(config, sample, model)

    def scored(name: str, values: Floats, is_candidate: bool = False) -> Reference:
        on_new = soft_metrics(target[new], values[new]) if new.any() else None
        return Reference(name, soft_metrics(target, values), on_new, is_candidate)

    before = [] if baseline is None else [scored("the last blessed model", baseline)]
    file = record_folder(config.output, record.run_id) / COMPARISON_FILE
    if file.exists():
        compared = _read_comparison(file)
        if compared.rows != len(sample):
            return compared
        place = next(number for number, line in enumerate(compared.lines) if line.is_candidate) + 1
        lines = (*compared.lines[:place], *before, *compared.lines[place:])
        return References(lines, compared.against_truth, compared.rows, compared.new_rows)
    known = []
    if sample.truth is not None:
        known = [
            scored(name, sample.truth[column].to_numpy())
            for name, column in (
                ("the truth (Bayes optimum)", "probability"),
                ("best attainable from this much data", "probability_attainable"),
                ("best without images", "probability_without_image"),
            )
        ]
    elif not before:
        return None
    candidate = scored("this run's model", prediction, is_candidate=True)
    return References((*known, candidate, *before), sample.truth is not None, len(sample), int(new.sum()))


def _is_new(config: Config, sample: HeldOutSample, model: str) -> npt.NDArray[np.bool_]:
    """Which impressions have a value of the first new-value slice's column that the model does not know."""
    for name in config.evaluation.new_value_slices[:1]:
        known = {*read_vocabularies(model, config.features, [name])[name]}
        return np.array([value not in known for value in sample.columns[name].tolist()], bool)
    return np.zeros(len(sample), bool)


def _read_comparison(file: Path) -> References:
    found = json.loads(file.read_text(encoding="utf-8"))
    lines = tuple(
        Reference(
            line["name"],
            SoftMetrics(**line["overall"]),
            SoftMetrics(**line["new"]) if line["new"] else None,
            line["name"] == SERVED,
        )
        for line in found["lines"]
    )
    return References(lines, found["against_truth"], found["rows"], found["new_rows"])


def _images(
    config: Config, record: RunRecord, sample: HeldOutSample, predict: Predict, served: Floats
) -> Images | None:
    image = config.features.image_name
    if image is None or not sample.usable_image.any():
        return None
    rows = np.flatnonzero(sample.usable_image)
    shown = {name: values[rows] for name, values in sample.columns.items()}
    without = predict({**shown, image: np.full(len(rows), b"", object)}).astype(np.float64)
    lifts = measure_lifts(shown[image], served[rows], without)
    count = min(_IMAGES_SHOWN, len(lifts) // 2)
    top, bottom = lifts[:count], lifts[::-1][:count]
    wanted = {lift.key for lift in (*top, *bottom)}
    return Images(tuple(top), tuple(bottom), len(lifts), len(rows), _pictures(config, record, wanted))


def measure_lifts(keys: Array, prediction: Floats, without: Floats) -> list[CreativeLift]:
    """What each creative does to the prediction in the impressions that showed it, the highest lift first.

    Args:
        keys: Each impression's creative, bytes [rows].
        prediction: Its prediction [rows].
        without: Its prediction if its image were unknown [rows].
    """
    creatives, where = np.unique(keys.astype(np.bytes_), return_inverse=True)
    impressions = np.bincount(where)
    predicted, unknown = np.bincount(where, prediction), np.bincount(where, without)
    often = impressions >= _OFTEN
    ranked = np.flatnonzero(often if often.sum() >= 2 * _IMAGES_SHOWN else impressions > 0)
    lifts = [
        CreativeLift(
            key=creatives[one].decode(),
            lift=float(predicted[one] / unknown[one] - 1),
            impressions=int(impressions[one]),
            predicted=float(predicted[one] / impressions[one]),
        )
        for one in ranked
    ]
    return sorted(lifts, key=lambda lift: -lift.lift)


def _pictures(config: Config, record: RunRecord, wanted: set[str]) -> dict[str, Picture]:
    missing = set(wanted)
    pictures: dict[str, Picture] = {}
    (uri,) = record.artifacts[f"AdExampleGen-{record.drops[-1].name}.creatives"]
    for number, creative in enumerate(read_creatives(filesystem.list_files(local_copy(uri), ["creatives-*"]))):
        if creative.key in missing and creative.image is not None:
            missing.remove(creative.key)
            jpeg = _thumbnail(creative, creative.image, config)
            pictures[creative.key] = Picture(creative.source, creative.width, creative.height, jpeg)
        if not missing or number == _CREATIVES_TO_READ:
            break
    return pictures


def _thumbnail(creative: Creative, pixels: bytes, config: Config) -> bytes:
    """The original made small, if it is still what was ingested; otherwise what the model saw, in its proportions."""
    image = None
    try:
        with filesystem.open_read(creative.source) as stream:
            encoded = stream.read(config.ingestion.max_image_bytes + 1)
        if hashlib.sha256(encoded).hexdigest().startswith(creative.key):
            image = open_upright(to_decodable(encoded)).convert("RGB")
    except (OSError, ValueError):
        image = None
    if image is None:
        size = config.ingestion.image_size
        square = PillowImage.frombytes("RGB", (size, size), pixels)
        image = square.resize((max(creative.width, 1), max(creative.height, 1)))
    image.thumbnail(_THUMBNAIL)
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=80, optimize=True)
    return jpeg.getvalue()
