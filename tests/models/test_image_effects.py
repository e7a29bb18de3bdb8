"""What images do is found in the residuals of creatives, and only where it is there."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from adclick.models.creatives import OK, Creative
from adclick.models.effects import Effects, estimate_effects
from adclick.models.features import InputLayout
from adclick.models.image_effects import creative_residuals, learn_image_effects
from adclick.models.network import ClickNetwork
from adclick.models.settings import NetworkSettings, TrainingSettings
from adclick.models.training_data import Columns, TrainingCreatives
from adclick.schema.roles.inputs import CategoryField
from tests.models.tiny_model import IMAGE_SIZE, write_creatives

CREATIVES, SITES = 300, 5
LAYOUT = InputLayout(
    (CategoryField("ad", 1, CREATIVES + 1, CREATIVES), CategoryField("site", 1, SITES + 1, SITES)), (), True
)
AD = [0]


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


def impressions(rows: int, *, of_bright: float) -> Columns:
    """The last site is clicked more often, and so are bright images, by `of_bright` logits."""
    random = np.random.default_rng(1)
    creative = random.integers(0, CREATIVES, rows)
    site = random.integers(0, SITES, rows)
    logit = -2 + 1.0 * (site == SITES - 1) + of_bright * (creative % 2)
    return Columns(
        categories=np.stack([creative, site], 1).astype(np.int32),
        multiples=np.zeros((rows, 0), np.int32),
        numbers=np.zeros((rows, 0), np.float32),
        creative=creative.astype(np.int32),
        clicked=(random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32),
    )


def network_and_effects(columns: Columns) -> tuple[ClickNetwork, Effects]:
    sizes = [field.size for field in LAYOUT.singles]
    effects = estimate_effects(columns.categories, columns.clicked, sizes, largest_combination=0, evidence=3)
    keras.utils.set_random_seed(1)
    settings = NetworkSettings(embedding_dimension=4, hidden_units=(8,))
    return ClickNetwork(LAYOUT, settings, TrainingSettings(), IMAGE_SIZE, len(columns), effects), effects


def logits_of(network: ClickNetwork, store: TrainingCreatives) -> np.ndarray:
    """The logit of each creative, shown as an unknown ad on the first site."""
    categories = np.tile(np.array([[CREATIVES, 0]], np.int32), (CREATIVES, 1))
    embedded = network.embed_images(store.images(np.arange(CREATIVES)))
    return np.asarray(network.score(categories, None, np.zeros((CREATIVES, 0), np.float32), embedded))


def test_an_effect_is_found_and_the_logit_takes_it(store: TrainingCreatives) -> None:
    columns = impressions(30_000, of_bright=1.0)
    network, effects = network_and_effects(columns)
    assert learn_image_effects(network, columns, store, effects, AD, seed=1)
    logits = logits_of(network, store)
    assert 0.5 < logits[1::2].mean() - logits[::2].mean() < 1.7


def test_no_effect_leaves_the_network_as_it_was(store: TrainingCreatives) -> None:
    columns = impressions(30_000, of_bright=0.0)
    network, effects = network_and_effects(columns)
    before = [variable.numpy() for variable in network.variables]
    assert not learn_image_effects(network, columns, store, effects, AD, seed=1)
    for variable, value in zip(network.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_few_creatives_teach_nothing(store: TrainingCreatives) -> None:
    columns = impressions(30_000, of_bright=1.0)
    few = columns.take(columns.creative < 20)
    network, effects = network_and_effects(few)
    assert not learn_image_effects(network, few, store, effects, AD, seed=1)
    without = replace(few, creative=np.full(len(few), -1, np.int32))
    assert not learn_image_effects(network, without, store, effects, AD, seed=1)


def test_residuals_leave_out_what_the_ad_s_own_effect_holds() -> None:
    columns = impressions(60_000, of_bright=1.0)
    _, effects = network_and_effects(columns)
    shown = columns.take(columns.creative < CREATIVES - 1)
    residual, weight = creative_residuals(shown, effects, AD, CREATIVES)
    assert weight[-1] == 0 and (weight[:-1] > 0).all()
    bright, dark = (np.average(residual[:-1][part::2], weights=weight[:-1][part::2]) for part in (1, 0))
    assert bright - dark == pytest.approx(1.0, abs=0.2)
