"""Searches hyperparameters by the log loss of impressions to come, and tests the best on held-out ones.

KerasTuner's Bayesian optimisation proposes the values; its first trial is the config's own. No trial sees the
impressions held out for evaluation: they are scored once, in the end, with the config's values and with the best found.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from adclick.models.features import InputLayout, column_of_field, vocabulary_columns
from adclick.models.fitting import fit, predict
from adclick.models.metrics.counts import log_losses
from adclick.models.settings import ModelSettings
from adclick.models.training_data import Columns, TrainingCreatives
from adclick.schema.errors import ModelRefused
from adclick.schema.feature_table import FeatureTable

Floats = npt.NDArray[np.float64]
Value = int | float | str

#: Trials of random values before the optimisation models what it has seen.
_RANDOM_TRIALS = 8
#: Variance of a trial's log loss by chance, as a share of that among trials.
_NOISE = 0.01
_SIGNIFICANT_DIGITS = 3


@dataclass(frozen=True)
class TuningSettings:
    """How long to search and on how much.

    Attributes:
        trials: Sets of values to try, the config's own included.
        max_rows: The search trains and scores on at most this many, the newest, impressions of the training and
            validation splits.
        folds: How many stretches of time a trial is validated on, each after what it is trained on.
        validation_share: The length of one stretch, as a share of the impressions that the search uses.
        finalists: So many of the best trials are fitted with further seeds, lest a lucky seed win.
        repeats: Fits, each with a seed of its own, over which a finalist and the final test average.
        stopping_share: The share of the impressions that the search uses by which training stops early.
    """

    trials: int = 20
    max_rows: int = 500_000
    folds: int = 3
    validation_share: float = 0.15
    finalists: int = 3
    repeats: int = 3
    stopping_share: float = 0.08


@dataclass(frozen=True)
class Fold:
    """Three stretches of impressions, each after the one before, as a month's model meets them.

    Attributes:
        train: Train the network.
        stopping: Stop its training early.
        scored: Score it; they decide nothing about it.
    """

    train: Columns
    stopping: Columns
    scored: Columns


@dataclass(frozen=True)
class TuningData:
    """What is searched on.

    Attributes:
        layout: The network's inputs.
        folds: What a trial is scored on, the oldest first.
        final: For the final test alone: the whole window, parted as for a run's model, scored on its evaluation split.
        store: The creatives, where there are images.
        image_size: Edge of the creatives in pixels.
    """

    layout: InputLayout
    folds: tuple[Fold, ...]
    final: Fold
    store: TrainingCreatives | None
    image_size: int


@dataclass(frozen=True)
class Trial:
    """One set of values.

    Attributes:
        number: 0 for the config's own.
        values: By config key, such as `training.learning_rate`.
        log_loss: The mean over folds; None if the trial failed.
    """

    number: int
    values: Mapping[str, Value]
    log_loss: float | None


@dataclass(frozen=True)
class HeldOutTest:
    """Two settings on the same held-out impressions, each averaged over several fits.

    Attributes:
        current: Mean log loss with the config's values.
        tuned: Mean log loss with the tuned values.
        standard_error: Of the difference, by the impressions drawn and by the fits' seeds.
        rows: Held-out impressions.
    """

    current: float
    tuned: float
    standard_error: float
    rows: int

    @property
    def difference(self) -> float:
        """Tuned less current: below 0 is better."""
        return self.tuned - self.current

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the difference."""
        return self.difference - 1.96 * self.standard_error, self.difference + 1.96 * self.standard_error


def split_for_tuning(
    features: FeatureTable,
    layout: InputLayout,
    train: Columns,
    validation: Columns,
    evaluation: Columns,
    store: TrainingCreatives | None,
    image_size: int,
    settings: TuningSettings,
    folder: Path,
) -> TuningData:
    """Splits the impressions of training and validation, which are in the order of time, into folds.

    Vocabularies were made with all of training's, but a trial must meet new values as the network does in service:
    values that a fold's own training impressions show too seldom to enter a vocabulary are replaced by the unknown, in
    arrays under `folder`, which must outlive them.

    Raises:
        ValueError: Some stretch of impressions has no click, or nothing but clicks.
    """
    newest = train.last(settings.max_rows).joined(validation).last(settings.max_rows)
    width, stopping = round(len(newest) * settings.validation_share), round(len(newest) * settings.stopping_share)
    stretches = []
    for number in reversed(range(settings.folds)):
        start = max(0, len(newest) - (number + 1) * width)
        before = newest.take(slice(start))
        cut = max(0, len(before) - stopping)
        stretches.append([before.take(slice(cut)), before.last(stopping), newest.take(slice(start, start + width))])
    stretches.append([train, validation, evaluation])
    folds = []
    for number, parts in enumerate(stretches):
        for name, part in zip(("training", "early-stopping", "scored"), parts, strict=True):
            clicks = int(np.sum(part.clicked))
            if not 0 < clicks < len(part):
                raise ValueError(f"of {len(part)} {name} impressions {clicks} are clicked: both kinds are needed")
        folds.append(Fold(*_hide_rare(features, layout, parts, folder, number)))
    return TuningData(layout, tuple(folds[:-1]), folds[-1], store, image_size)


def _hide_rare(
    features: FeatureTable, layout: InputLayout, parts: Sequence[Columns], folder: Path, split: int
) -> list[Columns]:
    """Replaces the values that the first part shows less than `min_count` times by the unknown, in copies."""
    hidden = [
        replace(
            part,
            categories=_copied(part.categories, folder / f"tuning.{split}.{number}.categories"),
            multiples=_copied(part.multiples, folder / f"tuning.{split}.{number}.multiples"),
        )
        for number, part in enumerate(parts)
    ]
    columns, column_of = vocabulary_columns(features), column_of_field(features)
    starts = np.cumsum([0, *(field.width for field in layout.multiples)]).tolist()
    places = [("categories", slice(index, index + 1), field) for index, field in enumerate(layout.singles)]
    places += [
        ("multiples", slice(start, start + field.width), field)
        for start, field in zip(starts, layout.multiples, strict=False)
    ]
    for name, where, field in places:
        if field.unknown is None:
            continue
        seen = getattr(parts[0], name)[:, where]
        rare = np.bincount(seen[seen >= 0], minlength=field.size) < columns[column_of[field.name]].min_count
        rare[field.unknown] = False
        for part in hidden:
            values = getattr(part, name)[:, where]
            values[(values >= 0) & rare[values]] = field.unknown
    return hidden


def _copied(values: npt.NDArray[np.int32], file: Path) -> npt.NDArray[np.int32]:
    """A copy that is memory-mapped, as the original."""
    if not values.size:
        return values
    copy = np.memmap(file, values.dtype, "w+", shape=values.shape)
    copy[:] = values
    return copy


def search_space(current: ModelSettings, has_image: bool) -> keras_tuner.HyperParameters:
    """What is searched, by config key; the defaults are the current values, and every range includes them."""
    space = keras_tuner.HyperParameters()
    network, training = current.network, current.training

    def between(key: str, low: float, high: float, value: float, sampling: str = "log") -> None:
        space.Float(key, min(low, value), max(high, value), sampling=sampling, default=value)

    def among(key: str, choices: Sequence[Value], value: Value) -> None:
        known = [*choices] if value in choices else [*choices, value]
        space.Choice(key, known if isinstance(value, str) else sorted(known), default=value)

    between("training.learning_rate", 3e-4, 1e-2, training.learning_rate)
    between("training.embedding_deviation", 0.05, 2.0, training.embedding_deviation)
    between("training.unknown_rate", 0.0, 0.1, training.unknown_rate, "linear")
    if has_image:
        between("training.creative_id_rate", 0.0, 0.9, training.creative_id_rate, "linear")
    among("training.batch_size", [256, 512, 1024, 2048, 4096], training.batch_size)
    between("network.combination_evidence", 2.0, 6.0, network.combination_evidence, "linear")
    between("network.dropout", 0.0, 0.5, network.dropout, "linear")
    among("network.embedding_dimension", [4, 8, 16, 32], network.embedding_dimension)
    among("network.cross_layers", [0, 1, 2, 3], network.cross_layers)
    among("network.hidden_units", ["32", "64,32", "128,64", "256,128,64"], _units_text(network.hidden_units))
    return space


def _units_text(units: Sequence[int]) -> str:
    return ",".join(str(unit) for unit in units)


def settings_with(current: ModelSettings, values: Mapping[str, Value]) -> ModelSettings:
    """The settings with these values, by config key; other settings stay."""
    document = current.model_dump()
    for key, value in values.items():
        section, _, name = key.partition(".")
        document[section][name] = (
            [int(unit) for unit in str(value).split(",") if unit] if name == "hidden_units" else value
        )
    return ModelSettings.model_validate(document)


class _Oracle(keras_tuner.oracles.BayesianOptimizationOracle):  # type: ignore[misc]
    """Bayesian optimisation that tries the current values first."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        if not self.trials:
            return {"status": "RUNNING", "values": {hp.name: hp.default for hp in self.hyperparameters.space}}
        proposal: dict[str, Any] = super().populate_space(trial_id)
        if proposal["values"]:
            proposal["values"] = {
                name: float(f"{value:.{_SIGNIFICANT_DIGITS}g}") if isinstance(value, float) else value
                for name, value in proposal["values"].items()
            }
        return proposal


class _Tuner(keras_tuner.engine.base_tuner.BaseTuner):  # type: ignore[misc]
    """Fits the click network in each trial."""

    def __init__(
        self, data: TuningData, current: ModelSettings, oracle: _Oracle, folder: Path, on_trial: Callable[[Trial], None]
    ) -> None:
        super().__init__(oracle, directory=str(folder), project_name="search")
        self._data = data
        self._current = current
        self._on_trial = on_trial

    def run_trial(self, trial: Any) -> float:
        try:
            loss = _validated(self._data, settings_with(self._current, trial.hyperparameters.values))
        except tf.errors.ResourceExhaustedError as error:
            raise keras_tuner.errors.FailedTrialError(f"out of memory: {error.message}") from error
        except ModelRefused as error:
            raise keras_tuner.errors.FailedTrialError(error.message) from error
        except Exception as error:
            raise keras_tuner.errors.FatalRuntimeError(f"a trial failed: {type(error).__name__}: {error}") from error
        if not math.isfinite(loss):
            raise keras_tuner.errors.FailedTrialError("the log loss is not finite")
        return loss

    def on_trial_end(self, trial: Any) -> None:
        super().on_trial_end(trial)
        self._on_trial(_as_trial(trial))


def _as_trial(trial: Any) -> Trial:
    loss = trial.score if trial.status == "COMPLETED" else None
    return Trial(int(trial.trial_id), dict(trial.hyperparameters.values), loss)


def _validated(data: TuningData, settings: ModelSettings) -> float:
    """The mean log loss over the folds."""
    return statistics.fmean(
        float(log_losses(_clicked(fold), _predicted(data, fold, settings)).mean()) for fold in data.folds
    )


def _clicked(fold: Fold) -> Floats:
    return np.asarray(fold.scored.clicked, np.float64)


def _predicted(data: TuningData, fold: Fold, settings: ModelSettings) -> Floats:
    """Fits a network and predicts the scored impressions: float64 [rows]."""
    result = fit(
        fold.train, fold.stopping, data.store, data.layout, settings.network, settings.training, data.image_size
    )
    probability = predict(result.network, fold.scored, data.store).astype(np.float64)
    del result
    # Keras holds on to every network's state until told otherwise.
    keras.backend.clear_session()
    return probability


def search(
    data: TuningData,
    current: ModelSettings,
    settings: TuningSettings,
    folder: Path,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Tries sets of values, the current ones first.

    Args:
        data: From `split_for_tuning`.
        current: The config's values.
        settings: How long to search.
        folder: Keeps every trial. A search that was cut short goes on where it was; a finished one is only read.
        on_trial: Is told of each trial as it ends.

    Returns:
        All trials, those of earlier calls on this folder included, in their order.

    Raises:
        RuntimeError: Three trials in a row ran out of memory or gave no finite loss, or one failed for another reason.
    """
    oracle = _Oracle(
        objective=keras_tuner.Objective("log_loss", "min"),
        max_trials=settings.trials,
        num_initial_points=_RANDOM_TRIALS,
        alpha=_NOISE,
        seed=current.training.seed,
        hyperparameters=search_space(current, data.layout.has_image),
    )
    oracle.verbose = 0
    _Tuner(data, current, oracle, folder, on_trial).search()
    return sorted((_as_trial(trial) for trial in oracle.trials.values()), key=lambda trial: trial.number)


def choose(
    data: TuningData,
    current: ModelSettings,
    trials: Sequence[Trial],
    settings: TuningSettings,
    on_fit: Callable[[], None] = lambda: None,
) -> Trial:
    """Fits the current values and the best trials with further seeds and gives the one of the lowest mean log loss.

    Args:
        data: From `split_for_tuning`.
        current: The config's values.
        trials: From `search`.
        settings: How many finalists and seeds.
        on_fit: Is called after each fit.

    Returns:
        The trial, whose log loss is now the mean over the seeds. Trial 0 if no other is better.
    """
    done = sorted((trial for trial in trials if _finite_log_loss(trial) < math.inf), key=_finite_log_loss)
    finalists = [trial for trial in done if trial.number == 0] + [t for t in done if t.number][: settings.finalists]
    means = []
    for trial in finalists:
        losses = [_finite_log_loss(trial)]
        for repeat in range(1, settings.repeats):
            try:
                losses.append(_validated(data, _reseeded(settings_with(current, trial.values), repeat)))
            except ModelRefused:
                losses.append(math.inf)
            on_fit()
        means.append(replace(trial, log_loss=statistics.fmean(losses)))
    best = min(means, key=_finite_log_loss)
    return best if _finite_log_loss(best) < math.inf else means[0]


def _finite_log_loss(trial: Trial) -> float:
    """The log loss to compare by: infinite for a trial that has none."""
    return trial.log_loss if trial.log_loss is not None and math.isfinite(trial.log_loss) else math.inf


def _reseeded(settings: ModelSettings, repeat: int) -> ModelSettings:
    training = settings.training.model_copy(update={"seed": settings.training.seed + repeat})
    return settings.model_copy(update={"training": training})


def held_out_test(
    data: TuningData,
    current: ModelSettings,
    tuned: ModelSettings,
    settings: TuningSettings,
    truth: Floats | None = None,
    on_fit: Callable[[], None] = lambda: None,
) -> HeldOutTest:
    """Fits both settings on the window up to the held-out impressions and scores them on those.

    Args:
        data: From `split_for_tuning`.
        current: The config's values.
        tuned: The best that the search found.
        settings: How many seeds.
        truth: The true click probabilities of the held-out impressions, where they are known; scores are against these
            rather than the clicks, whose chance hides small differences.
        on_fit: Is called after each fit.
    """
    target = _clicked(data.final) if truth is None else truth

    def fitted(chosen: ModelSettings) -> Floats:
        predictions = []
        for repeat in range(settings.repeats):
            predictions.append(_predicted(data, data.final, _reseeded(chosen, repeat)))
            on_fit()
        return np.stack(predictions)

    current_loss, tuned_loss = log_losses(target, fitted(current)), log_losses(target, fitted(tuned))
    by_row = (tuned_loss - current_loss).mean(axis=0)
    variance = by_row.var(ddof=1) / len(by_row) if len(by_row) > 1 else math.inf
    if settings.repeats > 1:
        for losses in (current_loss, tuned_loss):
            variance += losses.mean(axis=1).var(ddof=1) / settings.repeats
    return HeldOutTest(
        current=float(current_loss.mean()),
        tuned=float(tuned_loss.mean()),
        standard_error=math.sqrt(variance),
        rows=len(target),
    )
