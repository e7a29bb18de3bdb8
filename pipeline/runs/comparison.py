"""Sets a run's model beside what it should beat: logistic regression, itself without images, and the known best.

All are scored on the newest month's held-out impressions, as the log holds them: against the true click probability as
a soft label where the data is generated and the truth stands beside it, against the clicks otherwise.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from tfx.utils import path_utils

from adclick.components.example_files import example_batches
from adclick.models.features import InputLayout
from adclick.models.fitting import fit, predict
from adclick.models.loading import load_model
from adclick.models.soft_metrics import SoftMetrics, soft_metrics
from adclick.models.trainer import TrainingData
from adclick.models.training_data import Columns
from adclick.pipeline.config.settings import Config
from adclick.pipeline.runs.data import held_out_files, held_out_truth, load_run_data
from adclick.pipeline.runs.record import RunRecord
from adclick.schema.signatures import CLICK_PROBABILITY, SERVING_EXAMPLES

Floats = npt.NDArray[np.float64]

#: Inverse strengths of the L2 penalty to choose from.
_REGRESSION_STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)


#: The line of the run's own model.
SERVED = "adclick, the served model"


@dataclass(frozen=True)
class ComparisonLine:
    """One row of the comparison.

    Attributes:
        name: The model or reference.
        overall: On all held-out impressions.
        new: On those whose value of the first of `evaluation.new_value_slices` the model does not know, if any.
    """

    name: str
    overall: SoftMetrics
    new: SoftMetrics | None

    @property
    def is_served(self) -> bool:
        return self.name == SERVED


@dataclass(frozen=True)
class Comparison:
    """The table, the best first only where the truth is known.

    Attributes:
        lines: Its rows.
        against_truth: Whether scores are against the true probability rather than the clicks.
        rows: Held-out impressions.
        new_rows: Those of an unknown ad.
    """

    lines: list[ComparisonLine]
    against_truth: bool
    rows: int
    new_rows: int


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Writes the table as JSON, for tools."""
    path.write_text(json.dumps(asdict(comparison), indent=1), encoding="utf-8")


def compare(config: Config, record: RunRecord) -> Comparison:
    """Trains the rivals on what the run's model was trained on, and scores everything on its held-out impressions."""
    (model,) = record.artifacts["ClickTrainer.model"]
    with tempfile.TemporaryDirectory(prefix="adclick-comparison-") as folder:
        loaded = load_run_data(config, record, Path(folder))
        data, evaluation = loaded.training, loaded.evaluation
        served = _served(path_utils.serving_model_path(model), held_out_files(record))
        truth = held_out_truth(config, record)
        target = evaluation.clicked.astype(np.float64) if truth is None else truth["probability"].to_numpy()
        new = rows_of_new_ads(config, data.layout, evaluation)
        predictions: dict[str, Floats] = {}
        if truth is not None:
            predictions["the truth (Bayes optimum)"] = target
            predictions["best attainable from this much data"] = truth["probability_attainable"].to_numpy()
            predictions["best without images"] = truth["probability_without_image"].to_numpy()
        predictions[SERVED] = as_logged(served, config.training.negative_sampling_rate)
        if config.has_images:
            predictions["adclick without images"] = _without_images(config, data, evaluation)
        predictions["logistic regression"] = _logistic_regression(data, evaluation)
        predictions["the training click rate"] = np.full(len(target), float(np.mean(data.train.clicked)))
        lines = [
            ComparisonLine(
                name, soft_metrics(target, values), soft_metrics(target[new], values[new]) if new.any() else None
            )
            for name, values in predictions.items()
        ]
    return Comparison(lines, truth is not None, len(target), int(new.sum()))


def _served(model: str, files: Sequence[str]) -> Floats:
    """The served model's probabilities of the held-out impressions, in the order of their columns."""
    signature = load_model(model).signatures[SERVING_EXAMPLES]
    scores = [
        signature(examples=examples)[CLICK_PROBABILITY].numpy()
        for file in sorted(files)
        for examples in example_batches(file)
    ]
    return np.concatenate(scores).astype(np.float64)


def rows_of_new_ads(config: Config, layout: InputLayout, columns: Columns) -> npt.NDArray[np.bool_]:
    """Which impressions have a value of the first new-value slice's column that the model does not know; [rows]."""
    for name in config.evaluation.new_value_slices[:1]:
        wanted = config.features.tensor_names[name]
        for index, field in enumerate(layout.singles):
            if field.name == wanted:
                return np.asarray(columns.categories[:, index] == field.unknown)
    return np.zeros(len(columns), bool)


def _without_images(config: Config, data: TrainingData, evaluation: Columns) -> Floats:
    layout = replace(data.layout, has_image=False)
    size = config.ingestion.image_size
    result = fit(data.train, data.validation, None, layout, config.network, config.training, size)
    return predict(result.network, evaluation, None).astype(np.float64)


def as_logged(probability: Floats, rate: float) -> Floats:
    """Undoes the correction of a served probability for unclicked impressions that the log left out."""
    return np.asarray(probability / (probability + (1 - probability) * rate))


def one_hot(layout: InputLayout, columns: Columns) -> sparse.csr_matrix:
    """Category numbers as a sparse matrix with a column per value, and the quantities beside them."""
    sizes = [field.size for field in layout.singles]
    offsets = np.cumsum([0, *sizes])
    rows = len(columns)
    where = (np.asarray(columns.categories, np.int64) + offsets[:-1]).ravel()
    starts = np.arange(0, rows * len(sizes) + 1, max(len(sizes), 1))[: rows + 1]
    hot = sparse.csr_matrix((np.ones(len(where), np.float32), where, starts), shape=(rows, int(offsets[-1])))
    return sparse.hstack([hot, sparse.csr_matrix(np.asarray(columns.numbers))], format="csr")


def _logistic_regression(data: TrainingData, evaluation: Columns) -> Floats:
    train, validation = one_hot(data.layout, data.train), one_hot(data.layout, data.validation)
    clicked = data.validation.clicked.astype(np.float64)

    def loss(model: LogisticRegression) -> float:
        return soft_metrics(clicked, model.predict_proba(validation)[:, 1].astype(np.float64)).log_loss

    models = (
        LogisticRegression(C=strength, max_iter=300).fit(train, np.asarray(data.train.clicked))
        for strength in _REGRESSION_STRENGTHS
    )
    best = min(models, key=loss)
    return np.asarray(best.predict_proba(one_hot(data.layout, evaluation))[:, 1], np.float64)
