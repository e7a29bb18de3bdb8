"""Tuning: what is searched on, in which order, what wins, and that held-out impressions decide nothing but the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adclick.models import tuning
from adclick.models.features import InputLayout
from adclick.models.settings import ModelSettings, NetworkSettings, TrainingSettings
from adclick.models.training_data import Columns
from adclick.models.tuning import (
    Fold,
    Trial,
    TuningData,
    TuningSettings,
    choose,
    held_out_test,
    search,
    search_space,
    settings_with,
    split_for_tuning,
)
from adclick.schema.feature_table import parse_feature_table
from adclick.schema.roles.inputs import CategoryField

FEATURES = parse_feature_table(
    {
        "clicked": {"role": "label"},
        "ad": {"role": "categorical", "min_count": 2},
        "topics": {"role": "multi_valued", "max_values": 2, "min_count": 3},
    }
)
LAYOUT = InputLayout((CategoryField("ad", 1, 4, 3), CategoryField("topics", 2, 3, 2)), (), False)
CURRENT = ModelSettings(network=NetworkSettings(), training=TrainingSettings())
#: One trial more than the random ones.
SETTINGS = TuningSettings(trials=9, finalists=2, repeats=2)


def columns(ads: list[int], topics: list[list[int]] | None = None) -> Columns:
    count = len(ads)
    return Columns(
        np.array(ads, np.int32)[:, None],
        np.array(topics or [[-1, -1]] * count, np.int32).reshape(count, 2),
        np.zeros((count, 0), np.float32),
        np.full(count, -1, np.int32),
        (np.arange(count) % 2).astype(np.float32),
    )


def data(evaluation: int = 400) -> TuningData:
    folds = [Fold(columns([0, 1] * half), columns([0, 1] * 5), columns([0, 1] * 6)) for half in (20, 25)]
    final = Fold(columns([0, 1] * 30), columns([0, 1] * 4), columns([0, 1] * (evaluation // 2)))
    return TuningData(LAYOUT, tuple(folds), final, None, 8)


def loss_of(network: NetworkSettings, training: TrainingSettings) -> float:
    """Least at a learning rate of 0.004 and without dropout; the seed plays a small part."""
    distance = math.log(training.learning_rate / 0.004)
    return 0.2 + 0.01 * distance**2 + 0.01 * network.dropout + 1e-5 * training.seed


@dataclass
class Fits:
    """Stands for the fitting; `loss_of` becomes the log loss of every prediction."""

    seen: list[Any]

    def fit(
        self,
        train: Columns,
        validation: Columns,
        store: None,
        layout: InputLayout,
        network: NetworkSettings,
        training: TrainingSettings,
        image_size: int,
    ) -> SimpleNamespace:
        self.seen.append((len(train), len(validation), network, training))
        return SimpleNamespace(network=loss_of(network, training))

    def predict(self, loss: float, scored: Columns, store: None) -> Any:
        return np.abs(scored.clicked.astype(np.float64) - (1 - math.exp(-loss)))


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    fake = Fits([])
    monkeypatch.setattr(tuning, "fit", fake.fit)
    monkeypatch.setattr(tuning, "predict", fake.predict)
    return fake


def test_folds_follow_the_time_and_meet_new_values_as_unknown(tmp_path: Path) -> None:
    train = columns([3, 0, 0, 1, 2, 0, 0, 1], [[0, 1]] * 4 + [[0, -1]] * 3 + [[1, 0]])
    validation = columns([1, 2, 1], [[1, 0]] * 3)
    evaluation = columns([0, 1, 2, 3], [[1, 1], [0, 2], [-1, -1], [0, 1]])
    settings = TuningSettings(max_rows=10, folds=2, validation_share=0.3, stopping_share=0.2)
    split = split_for_tuning(FEATURES, LAYOUT, train, validation, evaluation, None, 8, settings, tmp_path)

    def ads(part: Columns) -> list[int]:
        return part.categories[:, 0].tolist()

    # An ad needs two impressions to train on, a topic three. The first impression is older than the newest ten.
    assert [(ads(fold.train), ads(fold.stopping), ads(fold.scored)) for fold in split.folds] == [
        ([0, 0], [3, 3], [0, 0, 3]),
        ([0, 0, 3, 3, 0], [0, 3], [3, 3, 3]),
    ]
    final = split.final
    assert (ads(final.train), ads(final.stopping)) == ([3, 0, 0, 1, 3, 0, 0, 1], [1, 3, 1])
    assert ads(final.scored) == [0, 1, 3, 3]
    assert split.folds[1].train.multiples.tolist() == [[0, 1]] * 3 + [[0, -1]] * 2, "three of topic 1 are enough"
    np.testing.assert_array_equal(final.scored.multiples, evaluation.multiples)
    np.testing.assert_array_equal(split.folds[1].scored.clicked, validation.clicked)
    assert ads(train) == [3, 0, 0, 1, 2, 0, 0, 1], "the originals stay"

    rarer = columns([0] * 9, [[0, -1]] * 2 + [[1, -1]] * 7)
    (tmp_path / "rarer").mkdir()
    final = split_for_tuning(
        FEATURES, LAYOUT, rarer, validation, evaluation, None, 8, settings, tmp_path / "rarer"
    ).final
    assert final.train.multiples[:, 0].tolist() == [2, 2] + [1] * 7
    assert final.scored.multiples.tolist() == [[1, 1], [2, 2], [-1, -1], [2, 1]]


@pytest.mark.parametrize(
    ("sizes", "named"), [((1, 0, 40), "training"), ((60, 20, 0), "scored"), ((60, 0, 40), "early-stopping")]
)
def test_too_few_impressions_are_named(sizes: tuple[int, int, int], named: str, tmp_path: Path) -> None:
    train, validation, evaluation = (columns([0] * size) for size in sizes)
    with pytest.raises(ValueError, match=f"{named} impressions"):
        split_for_tuning(FEATURES, LAYOUT, train, validation, evaluation, None, 8, TuningSettings(folds=1), tmp_path)


@pytest.mark.parametrize(
    "current",
    [
        CURRENT,
        ModelSettings(
            network=NetworkSettings(hidden_units=(), embedding_dimension=5, cross_layers=9, dropout=0.9),
            training=TrainingSettings(learning_rate=0.5, embedding_deviation=3.0, batch_size=7, unknown_rate=0.0),
        ),
    ],
)
def test_the_space_starts_at_the_current_values(current: ModelSettings) -> None:
    space = search_space(current, has_image=True)
    values = {parameter.name: parameter.default for parameter in space.space}
    assert settings_with(current, values) == current
    for parameter in space.space:
        assert parameter.value_to_prob(parameter.default) is not None
        low, high = parameter.prob_to_value(0.0), parameter.prob_to_value(1.0 - 1e-9)
        extreme = settings_with(current, {parameter.name: low}), settings_with(current, {parameter.name: high})
        assert extreme[0] != extreme[1], f"{parameter.name} is a setting that the values reach"


def test_the_search_starts_with_the_current_values_and_finds_better_ones(fits: Fits, tmp_path: Path) -> None:
    told: list[Trial] = []
    trials = search(data(), CURRENT, SETTINGS, tmp_path, told.append)
    assert trials == told and [trial.number for trial in trials] == list(range(9))
    assert fits.seen[0][2:] == (CURRENT.network, CURRENT.training)
    losses = [trial.log_loss or math.inf for trial in trials]
    assert min(losses) < losses[0] and len({str(trial.values) for trial in trials}) == 9
    best = choose(data(), CURRENT, trials, SETTINGS)
    assert best.values == trials[losses.index(min(losses))].values
    assert best.log_loss == pytest.approx(min(losses) + 0.5e-5, abs=1e-9), "the mean of two seeds"
    assert {seen[:2] for seen in fits.seen} == {(40, 10), (50, 10)}, "held-out impressions are not looked at"
    for trial in trials:
        assert all(value == float(f"{value:.3g}") for value in trial.values.values() if isinstance(value, float))


def test_the_seed_decides_the_search(fits: Fits, tmp_path: Path) -> None:
    def tried(seed: int, name: str) -> list[Any]:
        current = ModelSettings(training=TrainingSettings(seed=seed))
        return [trial.values for trial in search(data(), current, SETTINGS, tmp_path / name)]

    assert tried(1, "a") == tried(1, "b")
    assert tried(1, "a")[1] != tried(2, "c")[1]


def test_an_interrupted_search_goes_on_and_a_finished_one_is_read(fits: Fits, tmp_path: Path) -> None:
    def interrupt(trial: Trial) -> None:
        if trial.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(data(), CURRENT, SETTINGS, tmp_path, interrupt)
    assert len(fits.seen) == 2 * 4
    resumed: list[Trial] = []
    trials = search(data(), CURRENT, SETTINGS, tmp_path, resumed.append)
    assert [trial.number for trial in resumed] == list(range(4, 9)) and len(fits.seen) == 2 * 9
    assert search(data(), CURRENT, SETTINGS, tmp_path) == trials and len(fits.seen) == 2 * 9


def test_a_trial_without_a_finite_loss_fails_alone(fits: Fits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*arguments: Any) -> SimpleNamespace:
        result = fits.fit(*arguments)
        return SimpleNamespace(network=math.nan) if len(fits.seen) == 3 else result

    monkeypatch.setattr(tuning, "fit", fit)
    trials = search(data(), CURRENT, replace(SETTINGS, trials=4), tmp_path)
    assert [trial.log_loss is None for trial in trials] == [False, True, False, False]
    assert choose(data(), CURRENT, trials, SETTINGS).log_loss is not None


def test_any_other_failure_ends_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*arguments: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(tuning, "fit", fit)
    with pytest.raises(RuntimeError, match="no space left"):
        search(data(), CURRENT, SETTINGS, tmp_path)


def test_nothing_better_leaves_the_current_values(fits: Fits) -> None:
    own, lucky = Trial(0, {}, 0.22026), Trial(1, {"network.dropout": 0.4}, 0.22025)
    assert choose(data(), CURRENT, [own, lucky], SETTINGS).number == 0, "another seed shows that it is worse"


def test_a_trial_whose_loss_is_none_is_not_chosen(fits: Fits) -> None:
    own, broken = Trial(0, {}, 0.5), Trial(1, {"network.dropout": 0.4}, math.nan)
    assert choose(data(), CURRENT, [broken, own], SETTINGS).number == 0


def test_the_held_out_test_is_paired(fits: Fits) -> None:
    same = held_out_test(data(), CURRENT, CURRENT, SETTINGS)
    assert same.difference == 0 and same.rows == 400 and same.interval[1] < 2e-5
    assert {seen[:2] for seen in fits.seen} == {(60, 8)}, "held-out impressions stop no training"
    tuned = settings_with(CURRENT, {"network.dropout": 0.0})
    better = held_out_test(data(), CURRENT, tuned, SETTINGS)
    assert better.current == pytest.approx(loss_of(CURRENT.network, CURRENT.training) + 0.5e-5)
    assert better.tuned == pytest.approx(loss_of(tuned.network, tuned.training) + 0.5e-5)
    assert better.interval[0] <= better.difference <= better.interval[1] < 0


def test_known_probabilities_are_scored_against(fits: Fits) -> None:
    truth = np.full(400, 0.3)
    found = held_out_test(data(), CURRENT, CURRENT, SETTINGS, truth)
    wrong = 1 - math.exp(-loss_of(CURRENT.network, CURRENT.training))
    predicted = np.where(data().final.scored.clicked == 1, 1 - wrong, wrong)
    assert found.current == pytest.approx(-np.mean(0.3 * np.log(predicted) + 0.7 * np.log1p(-predicted)), abs=1e-4)


def test_the_interval_covers_impressions_and_seeds(fits: Fits, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    made: list[Any] = []

    def predict(fitted: Any, scored: Columns, store: None) -> Any:
        made.append(np.clip(random.normal(0.3, 0.1, len(scored)), 0.01, 0.99))
        return made[-1]

    monkeypatch.setattr(tuning, "predict", predict)
    found = held_out_test(data(2_000), CURRENT, CURRENT, replace(SETTINGS, repeats=3))
    clicked = data(2_000).final.scored.clicked
    losses = np.stack([-np.where(clicked == 1, np.log(p), np.log1p(-p)) for p in made]).reshape(2, 3, -1)
    assert (found.current, found.tuned) == pytest.approx(tuple(losses.mean(axis=(1, 2))))
    row_error = (losses[1] - losses[0]).mean(axis=0).std(ddof=1) / math.sqrt(2_000)
    seed_variance = losses.mean(axis=2).var(axis=1, ddof=1).sum() / 3
    assert found.standard_error == pytest.approx(math.sqrt(row_error**2 + seed_variance))
    assert found.standard_error > row_error
