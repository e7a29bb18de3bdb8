"""Trains a rival on a folder of impressions and predicts its test rows, or measures how fast DeepCTR trains.

Runs in the rivals' own environment (see rival_environment.py) and imports nothing of adclick.

The folder holds train.parquet, validation.parquet and test.parquet, a row per impression, and columns.json:
{"label": "clicked", "categorical": [...], "numeric": [...]}. Categorical columns are strings or null, numeric ones are
floats or NaN, the label is 0 or 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
_Codes = NDArray[np.int32]

_PARTS = ("train", "validation", "test")

_BATCH_SIZE = 1024
_MAX_EPOCHS = 30
#: Columns of at most this many values are native categories beside their target encoding.
_LOW_CARDINALITY = 50

#: A rival begins no further setting once its search has taken so much of the processor; the first is always tried.
_SEARCH_SECONDS = 120.0

_LIGHTGBM = {
    "objective": "binary",
    "metric": "binary_logloss",
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "max_cat_threshold": 8,
    "deterministic": True,
    "verbosity": -1,
}
# Of each rival's settings the one with the least log loss on the validation rows is kept. The first is, of those tried,
# the one that came closest to the truth of generated impressions; the others are for fewer clicks and for more.
_LIGHTGBM_SETTINGS: tuple[Mapping[str, Any], ...] = (
    {"learning_rate": 0.04, "num_leaves": 15, "min_data_in_leaf": 100, "feature_fraction": 0.4}
    | {"lambda_l2": 10.0, "cat_smooth": 50.0, "cat_l2": 50.0},
    {"learning_rate": 0.04, "num_leaves": 4, "min_data_in_leaf": 50, "feature_fraction": 0.6}
    | {"lambda_l2": 10.0, "cat_smooth": 20.0, "cat_l2": 20.0},
    {"learning_rate": 0.02, "num_leaves": 8, "min_data_in_leaf": 300, "feature_fraction": 0.4}
    | {"lambda_l2": 50.0, "cat_smooth": 200.0, "cat_l2": 100.0},
    {"learning_rate": 0.04, "num_leaves": 31, "min_data_in_leaf": 20, "feature_fraction": 0.8}
    | {"lambda_l2": 1.0, "cat_smooth": 10.0, "cat_l2": 10.0},
    {"learning_rate": 0.02, "num_leaves": 63, "min_data_in_leaf": 200, "feature_fraction": 0.6}
    | {"lambda_l2": 10.0, "cat_smooth": 50.0, "cat_l2": 50.0},
)
_MAX_ROUNDS = 2_000
_PATIENCE_ROUNDS = 100

_CATBOOST_SETTINGS: tuple[Mapping[str, Any], ...] = (
    {"learning_rate": 0.08, "depth": 6, "l2_leaf_reg": 10.0, "max_ctr_complexity": 2},
    {"learning_rate": 0.08, "depth": 4, "l2_leaf_reg": 10.0, "max_ctr_complexity": 1},
    {"learning_rate": 0.08, "depth": 2, "l2_leaf_reg": 30.0, "max_ctr_complexity": 1},
)
_CATBOOST_PATIENCE_ROUNDS = 40


@dataclass(frozen=True)
class Data:
    """The impressions to learn from and to predict.

    Attributes:
        train: Rows to fit on.
        validation: Rows that decide when to stop.
        test: Rows to predict.
        label: Name of the column of clicks, 0 or 1.
        categorical: Names of the columns of strings.
        numeric: Names of the columns of floats.
    """

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    label: str
    categorical: Sequence[str]
    numeric: Sequence[str]

    @property
    def parts(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Train, validation and test."""
        return self.train, self.validation, self.test

    def clicks(self, part: pd.DataFrame) -> _Floats:
        """The label of a part, shape (rows,)."""
        return part[self.label].to_numpy(np.float64)


@dataclass(frozen=True)
class Fitted:
    """What a rival gave.

    Attributes:
        predictions: Click probability of each test row, shape (test rows,).
        validation: Click probability of each validation row, shape (validation rows,).
        fit_seconds: Time in the library's own training calls.
        best: The round or epoch, counted from 1, whose model was kept.
        settings: How many settings were tried on the validation rows.
    """

    predictions: _Floats
    validation: _Floats
    fit_seconds: float
    best: int
    settings: int = 1


def search(
    data: Data, settings: Sequence[Mapping[str, Any]], fit: Callable[[Mapping[str, Any]], Fitted], seconds: float
) -> Fitted:
    """Tries settings in their order and keeps the one that predicts the validation rows best.

    Args:
        data: The impressions.
        settings: What to try; the first is always tried.
        fit: Fits one of them.
        seconds: None is begun once so much processor time has passed, which other work on the machine does not change.

    Returns:
        The best; one whose log loss is not finite never is, unless all are so.
    """
    start = time.process_time()
    tried: list[tuple[float, Fitted]] = []
    for setting in settings:
        if tried and time.process_time() - start > seconds:
            break
        fitted = fit(setting)
        tried.append((log_loss(data.clicks(data.validation), fitted.validation), fitted))
    _, best = min(tried, key=lambda pair: pair[0] if np.isfinite(pair[0]) else np.inf)
    return replace(best, fit_seconds=sum(fitted.fit_seconds for _, fitted in tried), settings=len(tried))


def read(folder: Path) -> Data:
    """Reads a folder of impressions.

    Raises:
        SystemExit: A file or a column is missing, or train has not both clicked and unclicked rows.
    """
    missing = [
        name for name in ("columns.json", *(f"{part}.parquet" for part in _PARTS)) if not (folder / name).is_file()
    ]
    if missing:
        sys.exit(f"{folder} lacks {', '.join(missing)}")
    columns = json.loads((folder / "columns.json").read_text(encoding="utf-8"))
    wanted = [columns["label"], *columns["categorical"], *columns["numeric"]]
    parts = {}
    for part in _PARTS:
        frame = pd.read_parquet(folder / f"{part}.parquet")
        absent = [name for name in wanted if name not in frame]
        if absent:
            sys.exit(f"{folder}/{part}.parquet lacks the columns {', '.join(absent)} that columns.json names")
        parts[part] = frame[wanted]
    if parts["train"][columns["label"]].nunique() != 2:
        sys.exit(f"{folder}/train.parquet needs both clicked and unclicked rows")
    return Data(
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        label=columns["label"],
        categorical=columns["categorical"],
        numeric=columns["numeric"],
    )


def vocabulary(values: pd.Series, min_count: int) -> dict[str, int]:
    """The codes, from 1, of the values seen at least `min_count` times; 0 is for all others. A null is a value too."""
    counts = values.fillna("").value_counts()
    return {value: code for code, value in enumerate(counts.index[counts >= min_count], start=1)}


def encode(values: pd.Series, codes: Mapping[str, int]) -> _Codes:
    """The code of each value, shape (rows,); 0 where the vocabulary lacks it."""
    return values.fillna("").map(codes).fillna(0).to_numpy().astype(np.int32)


def scale(train: _Floats, values: _Floats) -> NDArray[np.float32]:
    """Standardises a numeric column by the moments of train, after a logarithm where train is strongly skewed.

    Args:
        train: The column in train, shape (train rows,), NaN where missing.
        values: The column to scale, shape (rows,), NaN where missing.

    Returns:
        Shape (rows, 2): the scaled value, 0 where missing, and whether it is missing.
    """
    if abs(float(pd.Series(train).skew())) > 2:  # type: ignore[arg-type]
        train, values = (np.sign(column) * np.log1p(np.abs(column)) for column in (train, values))
    present = train[~np.isnan(train)]
    mean, deviation = (present.mean(), present.std()) if present.size else (0.0, 0.0)
    missing = np.isnan(values)
    scaled = np.where(missing, 0.0, (values - mean) / (deviation or 1.0))
    return np.stack([scaled, missing], axis=1).astype(np.float32)


def other_rows_with_value(train: pd.Series, values: pd.Series, *, within_train: bool) -> _Floats:
    """The logarithm of how many rows of train, other than the row itself, share each value; shape (rows,)."""
    counts = values.fillna("").map(train.fillna("").value_counts()).fillna(0).to_numpy(np.float64)
    return np.log1p(counts - within_train)


def fit_lightgbm(data: Data, seed: int) -> Fitted:
    """LightGBM with its native categories; values too rare to learn from share one."""
    tables = [part[data.numeric].astype(np.float64) for part in data.parts]
    for name in data.categorical:
        codes = vocabulary(data.train[name], min_count=10)
        for table, part in zip(tables, data.parts, strict=True):
            table[name] = encode(part[name], codes)
    return _boost(data, tables, data.categorical, seed)


def fit_lightgbm_target_encoding(data: Data, seed: int) -> Fitted:
    """LightGBM on cross-fitted target encodings and counts of all categorical columns; small ones native too."""
    from sklearn.model_selection import StratifiedKFold
    from sklearn.preprocessing import TargetEncoder

    names = list(data.categorical)
    # The prior weighs as much as rows with four clicks, so that it suits any click rate.
    smooth = 4 / data.clicks(data.train).mean()
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    encoder = TargetEncoder(target_type="binary", smooth=smooth, cv=folds)
    texts = [part[names].fillna("").astype(object) for part in data.parts]
    encoded = [
        encoder.fit_transform(texts[0], data.clicks(data.train)),
        *(encoder.transform(part) for part in texts[1:]),
    ]
    vocabularies = {name: vocabulary(data.train[name], min_count=10) for name in names}
    native = [name for name, codes in vocabularies.items() if len(codes) <= _LOW_CARDINALITY]
    tables = []
    for part, rates in zip(data.parts, encoded, strict=True):
        columns: dict[str, NDArray[Any]] = {name: part[name].to_numpy(np.float64) for name in data.numeric}
        for position, name in enumerate(names):
            columns[f"{name}_rate"] = rates[:, position]
            columns[f"{name}_count"] = other_rows_with_value(
                data.train[name], part[name], within_train=part is data.train
            )
        columns |= {name: encode(part[name], vocabularies[name]) for name in native}
        tables.append(pd.DataFrame(columns))
    return _boost(data, tables, native, seed)


def _boost(data: Data, tables: Sequence[pd.DataFrame], native: Sequence[str], seed: int) -> Fitted:
    import lightgbm  # type: ignore[import-not-found]

    train, validation, test = tables

    def fit(setting: Mapping[str, Any]) -> Fitted:
        rows = lightgbm.Dataset(train, data.clicks(data.train), categorical_feature=list(native))
        start = time.perf_counter()
        model = lightgbm.train(
            {**_LIGHTGBM, **setting, "seed": seed},
            rows,
            num_boost_round=_MAX_ROUNDS,
            valid_sets=[rows.create_valid(validation, data.clicks(data.validation))],
            callbacks=[lightgbm.early_stopping(_PATIENCE_ROUNDS, verbose=False)],
        )
        seconds = time.perf_counter() - start
        return Fitted(model.predict(test), model.predict(validation), seconds, model.best_iteration)

    return search(data, _LIGHTGBM_SETTINGS, fit, _SEARCH_SECONDS)


def fit_catboost(data: Data, seed: int) -> Fitted:
    """CatBoost with its own ordered statistics of the categories."""
    import catboost  # type: ignore[import-not-found]

    columns = [*data.categorical, *data.numeric]
    train, validation, test = (
        catboost.Pool(
            pd.concat([part[data.categorical].fillna("").astype(str), part[data.numeric].astype(np.float64)], axis=1),
            data.clicks(part),
            cat_features=list(range(len(data.categorical))),
            feature_names=columns,
        )
        for part in data.parts
    )

    def fit(setting: Mapping[str, Any]) -> Fitted:
        model = catboost.CatBoostClassifier(
            **setting,
            iterations=_MAX_ROUNDS,
            loss_function="Logloss",
            early_stopping_rounds=_CATBOOST_PATIENCE_ROUNDS,
            random_seed=seed,
            thread_count=int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))),
            allow_writing_files=False,
            verbose=False,
        )
        start = time.perf_counter()
        model.fit(train, eval_set=validation, use_best_model=True)
        seconds = time.perf_counter() - start
        predictions, validated = (model.predict_proba(rows)[:, 1] for rows in (test, validation))
        return Fitted(predictions, validated, seconds, model.tree_count_)

    return search(data, _CATBOOST_SETTINGS, fit, _SEARCH_SECONDS)


def deepctr_inputs(data: Data, embedding_dimension: int) -> tuple[list[Any], list[dict[str, NDArray[Any]]]]:
    """What DeepCTR's models take: the feature columns, and an array by column name for each part."""
    from deepctr.feature_column import DenseFeat, SparseFeat  # type: ignore[import-not-found]

    columns: list[Any] = []
    arrays: list[dict[str, NDArray[Any]]] = [{} for _ in data.parts]
    for name in data.categorical:
        codes = vocabulary(data.train[name], min_count=2)
        columns.append(SparseFeat(name, vocabulary_size=len(codes) + 1, embedding_dim=embedding_dimension))
        for array, part in zip(arrays, data.parts, strict=True):
            array[name] = encode(part[name], codes)
    for name in data.numeric:
        columns.append(DenseFeat(name, 2))
        for array, part in zip(arrays, data.parts, strict=True):
            array[name] = scale(data.train[name].to_numpy(np.float64), part[name].to_numpy(np.float64))
    return columns, arrays


def fit_dcn(data: Data, seed: int) -> Fitted:
    """DeepCTR's DCN-V2: cross layers of full matrices beside an MLP."""
    from deepctr.models import DCN  # type: ignore[import-not-found]

    settings = {"cross_parameterization": "matrix", "l2_reg_embedding": 1e-4, "l2_reg_linear": 1e-4, "dnn_dropout": 0.3}
    return _fit_deepctr(data, seed, DCN, settings)


def fit_deepfm(data: Data, seed: int) -> Fitted:
    """DeepCTR's DeepFM."""
    from deepctr.models import DeepFM

    settings = {"l2_reg_embedding": 3e-4, "l2_reg_linear": 1e-4, "dnn_dropout": 0.3}
    return _fit_deepctr(data, seed, DeepFM, settings)


def _fit_deepctr(data: Data, seed: int, network: Any, settings: Mapping[str, Any]) -> Fitted:
    import tensorflow as tf

    tf.keras.utils.set_random_seed(seed)
    columns, (train, validation, test) = deepctr_inputs(data, embedding_dimension=8)
    model = network(columns, columns, dnn_hidden_units=(64, 32), seed=seed, **settings)
    model.compile("adam", "binary_crossentropy", metrics=["binary_crossentropy"])
    # The loss contains the regularisation; the metric is the log loss alone.
    watched = {"monitor": "val_binary_crossentropy", "mode": "min"}
    stopping = tf.keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True, **watched)
    start = time.perf_counter()
    model.fit(
        train,
        data.clicks(data.train),
        batch_size=_BATCH_SIZE,
        epochs=_MAX_EPOCHS,
        verbose=0,
        validation_data=(validation, data.clicks(data.validation)),
        callbacks=[stopping],
    )
    seconds = time.perf_counter() - start
    predictions, validated = (
        model.predict(inputs, batch_size=8 * _BATCH_SIZE, verbose=0).ravel().astype(np.float64)
        for inputs in (test, validation)
    )
    return Fitted(predictions, validated, seconds, stopping.best_epoch + 1)


def log_loss(clicks: _Floats, predictions: _Floats) -> float:
    """Mean log loss in nats."""
    kept = np.clip(predictions, 1e-7, 1 - 1e-7)
    return float(-np.mean(clicks * np.log(kept) + (1 - clicks) * np.log1p(-kept)))


def measure_throughput(data: Data, arguments: argparse.Namespace) -> dict[str, Any]:
    """How many examples a second DeepCTR's DCNMix trains on, as its users call it, in whole epochs after a warm-up."""
    import tensorflow as tf
    from deepctr.models import DCNMix

    class WholeEpochs(tf.keras.callbacks.Callback):  # type: ignore[misc]
        """Ends training with the first epoch that ends after so many seconds."""

        epochs = 0
        seconds = 0.0

        def on_train_begin(self, logs: object = None) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            self.epochs = epoch + 1
            self.seconds = time.perf_counter() - self.start
            self.model.stop_training = self.seconds >= arguments.seconds

    tf.keras.utils.set_random_seed(arguments.seed)
    columns, (train, _, _) = deepctr_inputs(data, arguments.embedding_dimension)
    clicks = data.clicks(data.train)
    model = DCNMix(
        columns,
        columns,
        cross_num=arguments.cross_layers,
        low_rank=arguments.cross_projection,
        num_experts=1,
        dnn_hidden_units=tuple(arguments.hidden_units),
        seed=arguments.seed,
    )
    model.compile("adam", "binary_crossentropy")
    # Batches of the real size and the smaller last one, so that each graph is traced before the clock runs.
    warm = min(50 * arguments.batch_size, len(clicks)) // arguments.batch_size * arguments.batch_size
    warm += len(clicks) % arguments.batch_size
    model.fit({name: array[:warm] for name, array in train.items()}, clicks[:warm], arguments.batch_size, verbose=0)
    clock = WholeEpochs()
    model.fit(train, clicks, arguments.batch_size, epochs=sys.maxsize, verbose=0, callbacks=[clock])
    return {
        "examples_per_second": len(clicks) * clock.epochs / clock.seconds,
        "rows": len(clicks),
        "epochs": clock.epochs,
        "seconds": clock.seconds,
    }


_DEEPCTR = ("tensorflow", "deepctr.models")
#: Each model's function and the libraries to import before the clock starts.
MODELS = {
    "catboost": (fit_catboost, ("catboost",)),
    "lightgbm": (fit_lightgbm, ("lightgbm",)),
    "lightgbm_target_encoding": (fit_lightgbm_target_encoding, ("lightgbm", "sklearn.preprocessing")),
    "dcn": (fit_dcn, _DEEPCTR),
    "deepfm": (fit_deepfm, _DEEPCTR),
}


def _import(libraries: Sequence[str]) -> None:
    # DeepCTR's layers are written for Keras 2.
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for library in libraries:
        if library.startswith("deepctr"):
            # At import DeepCTR asks a package index for its newest version, in a thread.
            with mock.patch.object(threading.Thread, "start"):
                importlib.import_module(library)
        else:
            importlib.import_module(library)


def train(data_folder: Path, name: str, seed: int, output: Path) -> dict[str, Any]:
    """Trains one model, writes predictions.npy and returns the summary."""
    fit, libraries = MODELS[name]
    _import(libraries)
    start = time.perf_counter()
    data = read(data_folder)
    fitted = fit(data, seed)
    seconds = time.perf_counter() - start
    np.save(output / "predictions.npy", np.asarray(fitted.predictions, np.float64))
    return {
        "model": name,
        "seed": seed,
        "seconds": seconds,
        "fit_seconds": fitted.fit_seconds,
        "best_iteration_or_epoch": fitted.best,
        "settings": fitted.settings,
        "validation_log_loss": log_loss(data.clicks(data.validation), fitted.validation),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--model", choices=sorted(MODELS), help="train this model and predict the test rows")
    task.add_argument("--throughput", action="store_true", help="measure how fast DeepCTR's DCNMix trains")
    parser.add_argument("--data", type=Path, required=True, help="the folder of impressions")
    parser.add_argument("--output", type=Path, required=True, help="the folder to write to")
    parser.add_argument("--seed", type=int, default=1)
    throughput = parser.add_argument_group("with --throughput")
    throughput.add_argument("--batch-size", type=int, default=_BATCH_SIZE)
    throughput.add_argument("--embedding-dimension", type=int, default=8)
    throughput.add_argument("--cross-layers", type=int, default=2)
    throughput.add_argument("--cross-projection", type=int, default=32)
    throughput.add_argument("--hidden-units", type=int, nargs="+", default=[64, 32])
    throughput.add_argument("--seconds", type=float, default=20.0, help="train for at least so long")
    arguments = parser.parse_args()

    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.throughput:
        _import(_DEEPCTR)
        summary = measure_throughput(read(arguments.data), arguments)
    else:
        summary = train(arguments.data, arguments.model, arguments.seed, arguments.output)
    (arguments.output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
