"""Fitting on generated impressions: what it must learn, keep and refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adclick.models.creatives import OK, Creative
from adclick.models.features import InputLayout
from adclick.models.fitting import Fit, fields_of_one_creative, fit, predict
from adclick.models.settings import NetworkSettings, TrainingSettings
from adclick.models.training_data import Columns, TrainingCreatives
from adclick.schema.errors import DataRefused, ModelRefused
from adclick.schema.roles.inputs import CategoryField
from tests.models.tiny_model import IMAGE_SIZE, write_creatives

ADS, CREATIVES = 150, 100
LAYOUT = InputLayout((CategoryField("ad", 1, ADS + 1, ADS), CategoryField("site", 1, 5, 4)), (), True)
NETWORK = NetworkSettings(embedding_dimension=4, hidden_units=(8,))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrainingCreatives:
    """Creatives of which every second one is bright."""
    folder = tmp_path_factory.mktemp("creatives")
    random = np.random.default_rng(2)
    creatives = []
    for number in range(CREATIVES):
        level = 190 if number % 2 else 60
        pixels = np.clip(random.normal(level, 20, (IMAGE_SIZE, IMAGE_SIZE, 3)), 0, 255).astype(np.uint8)
        creatives.append(Creative(f"{number:03d}", OK, f"{number}.png", "", pixels.tobytes(), IMAGE_SIZE, IMAGE_SIZE))
    return TrainingCreatives([write_creatives(folder / "creatives-0", creatives)], IMAGE_SIZE, folder)


def impressions(rows: int, seed: int, *, new_ads: bool = False) -> Columns:
    """Bright images are clicked four times as often; ads and sites do not matter."""
    random = np.random.default_rng(seed)
    ad = random.integers(0, ADS, rows)
    creative = ad % CREATIVES
    chance = np.where(creative % 2 == 1, 0.4, 0.1)
    return Columns(
        categories=np.stack([np.full(rows, ADS) if new_ads else ad, random.integers(0, 4, rows)], 1).astype(np.int32),
        multiples=np.zeros((rows, 0), np.int32),
        numbers=np.zeros((rows, 0), np.float32),
        creative=creative.astype(np.int32),
        clicked=(random.random(rows) < chance).astype(np.float32),
    )


def fitted(store: TrainingCreatives, log_folder: Path | None = None, *, mixed_precision: bool = False) -> Fit:
    training = TrainingSettings(max_epochs=6, batch_size=128, learning_rate=0.003, mixed_precision=mixed_precision)
    return fit(impressions(6_000, 1), impressions(1_000, 2), store, LAYOUT, NETWORK, training, IMAGE_SIZE, log_folder)


def test_new_ads_are_known_by_their_images(store: TrainingCreatives, tmp_path: Path) -> None:
    result = fitted(store, tmp_path)
    rows = impressions(2_000, 3, new_ads=True)
    chance = predict(result.network, rows, store)
    bright = rows.creative % 2 == 1
    assert chance[bright].mean() == pytest.approx(0.4, abs=0.08)
    assert chance[~bright].mean() == pytest.approx(0.1, abs=0.05)
    assert list(tmp_path.glob("events*"))
    assert result.epochs == len(result.history["val_auc"]) == len(result.history["learning_rate"])


def test_images_alone_are_learned_from(store: TrainingCreatives) -> None:
    layout = InputLayout((), (), True)
    train, validation = (
        replace(impressions(rows, rows), categories=np.zeros((rows, 0), np.int32)) for rows in (6_000, 999)
    )
    training = TrainingSettings(max_epochs=2, batch_size=128, learning_rate=0.003, epoch_evidence=-1000)
    chance = predict(fit(train, validation, store, layout, NETWORK, training, IMAGE_SIZE).network, validation, store)
    assert np.isfinite(chance).all()
    bright = validation.creative % 2 == 1
    assert chance[bright].mean() > chance[~bright].mean() + 0.1


def test_a_missing_image_is_neither(store: TrainingCreatives) -> None:
    rows = replace(impressions(500, 4, new_ads=True), creative=np.full(500, -1, np.int32))
    chance = predict(fitted(store).network, rows, store)
    assert 0.1 < chance.mean() < 0.4


def test_a_window_without_a_single_image_is_learned_from_its_columns(tmp_path: Path) -> None:
    without = replace(impressions(2_000, 4), creative=np.full(2_000, -1, np.int32))
    empty = TrainingCreatives([], IMAGE_SIZE, tmp_path)
    training = TrainingSettings(max_epochs=2, batch_size=128)
    chance = predict(fit(without, without, empty, LAYOUT, NETWORK, training, IMAGE_SIZE).network, without, empty)
    assert np.isfinite(chance).all() and np.ptp(chance) > 0


def test_the_seed_decides_the_weights(store: TrainingCreatives) -> None:
    first, second = (predict(fitted(store).network, impressions(100, 5), store) for _ in range(2))
    np.testing.assert_allclose(first, second, rtol=1e-4)


def test_mixed_precision_learns_the_same_and_leaves_an_exact_network(store: TrainingCreatives) -> None:
    rows = impressions(500, 7)
    exact, mixed = fitted(store), fitted(store, mixed_precision=True)
    assert mixed.best_log_loss == pytest.approx(exact.best_log_loss, rel=0.02)
    apart = np.abs(predict(mixed.network, rows, store) - predict(exact.network, rows, store))
    assert apart.mean() < 0.05 and apart.max() < 0.15
    assert {str(layer.compute_dtype) for layer in mixed.network.hidden.layers} == {"float32"}


def test_ids_of_one_image_are_found() -> None:
    data = impressions(3_000, 6)
    assert fields_of_one_creative(data, LAYOUT) == ["ad"]
    assert fields_of_one_creative(replace(data, creative=np.full(3_000, -1, np.int32)), LAYOUT) == []


@pytest.mark.parametrize(("clicked", "said"), [(0.0, "of 100 .* 0 are clicked"), (1.0, "of 100 .* 100 are clicked")])
def test_one_class_alone_is_refused(store: TrainingCreatives, clicked: float, said: str) -> None:
    train = replace(impressions(100, 1), clicked=np.full(100, clicked, np.float32))
    with pytest.raises(DataRefused, match=said):
        fit(train, train, store, LAYOUT, NETWORK, TrainingSettings(), IMAGE_SIZE)


def test_few_clicks_and_many_columns_are_not_learned_by_heart() -> None:
    random = np.random.default_rng(3)
    columns = 40
    layout = InputLayout((CategoryField("site", 1, 5, 4),), tuple(f"affinity{n}" for n in range(columns)), False)

    def meaningless(rows: int, clicks: int) -> Columns:
        affinities = np.where(random.random((rows, columns)) < 0.02, random.normal(5, 2, (rows, columns)), -0.1)
        return Columns(
            categories=random.integers(0, 4, (rows, 1)).astype(np.int32),
            multiples=np.zeros((rows, 0), np.int32),
            numbers=affinities.astype(np.float32),
            creative=np.full(rows, -1, np.int32),
            clicked=random.permutation(np.arange(rows) < clicks).astype(np.float32),
        )

    train, validation, unseen = meaningless(6_000, 60), meaningless(1_500, 15), meaningless(20_000, 200)
    training = TrainingSettings(batch_size=256, learning_rate=0.005)
    result = fit(train, validation, None, layout, NETWORK, training, IMAGE_SIZE)
    chance = predict(result.network, unseen, None).astype(np.float64)
    log_loss = -np.log(np.where(unseen.clicked == 1, chance, 1 - chance)).mean()
    assert log_loss < -(0.01 * np.log(0.01) + 0.99 * np.log(0.99)) * 1.005


def test_a_training_that_diverges_is_refused_by_name(store: TrainingCreatives) -> None:
    training = TrainingSettings(max_epochs=2, batch_size=128, learning_rate=1e30)
    with pytest.raises(ModelRefused, match=r"epoch 1.* (weights of `.+`|losses|predictions) are not finite"):
        fit(impressions(2_000, 1), impressions(500, 2), store, LAYOUT, NETWORK, training, IMAGE_SIZE)


def test_a_quantity_that_is_not_finite_is_refused_by_name() -> None:
    layout = InputLayout(LAYOUT.categories, ("price", "price_missing"), False)
    numbers = np.zeros((100, 2), np.float32)
    numbers[3, 0] = np.nan
    train = replace(impressions(100, 1), numbers=numbers)
    with pytest.raises(ModelRefused, match="1 of 100 values of the quantity `price` in training impressions"):
        fit(train, train, None, layout, NETWORK, TrainingSettings(), IMAGE_SIZE)


def test_no_rows_are_refused(store: TrainingCreatives) -> None:
    with pytest.raises(DataRefused, match="both are needed"):
        fit(impressions(100, 1), impressions(0, 1), store, LAYOUT, NETWORK, TrainingSettings(), IMAGE_SIZE)
