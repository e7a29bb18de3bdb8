"""Fits the click network: decay on plateau, early stopping on the held-out log loss, TensorBoard logs, seeded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from models.effects import estimate_effects
from models.features import InputLayout
from models.network import ClickNetwork
from models.settings import NetworkSettings, TrainingSettings
from models.training_data import Columns, CreativeStore, Hiding, as_dataset, batches

_EVALUATION_BATCH = 4_096


@dataclass(frozen=True)
class Fit:
    """A fitted network and how it came about.

    Attributes:
        network: With the weights of the best epoch.
        history: By metric, its value after each epoch.
    """

    network: ClickNetwork
    history: dict[str, list[float]]

    @property
    def epochs(self) -> int:
        return len(self.history["val_log_loss"])

    @property
    def best_log_loss(self) -> float:
        return min(self.history["val_log_loss"])


def fit(
    train: Columns,
    held_out: Columns,
    store: CreativeStore | None,
    layout: InputLayout,
    network_settings: NetworkSettings,
    training: TrainingSettings,
    image_size: int,
    log_folder: Path | str | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> Fit:
    """Trains a new network on `train` and keeps the weights that did best on `held_out`.

    Raises:
        ValueError: `train` or `held_out` has no rows, or `train` has no click or nothing but clicks.
    """
    if not len(train) or not len(held_out):
        raise ValueError(f"there are {len(train)} training and {len(held_out)} held-out impressions: both are needed")
    click_rate = float(np.mean(train.clicked))
    if not 0 < click_rate < 1:
        raise ValueError(
            f"the click rate of the training impressions is {click_rate:.0f}: both clicks and non-clicks are needed"
        )
    keras.utils.set_random_seed(training.seed)
    newest = slice(max(0, len(train) - training.effect_rows), None)
    effects = estimate_effects(
        np.asarray(train.categories[newest]),
        np.asarray(train.clicked[newest]),
        [field.size for field in layout.singles],
        largest_combination=network_settings.largest_combination,
        evidence=network_settings.combination_evidence,
    )
    network = ClickNetwork(layout, network_settings, training, image_size, len(train), effects)
    network.compile(
        optimizer=keras.optimizers.Adam(training.learning_rate),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[
            keras.metrics.BinaryCrossentropy(from_logits=True, name="log_loss"),
            keras.metrics.AUC(from_logits=True, name="auc", num_thresholds=500),
        ],
        jit_compile=False,
    )
    epoch_seeds = iter(np.random.SeedSequence(training.seed).generate_state(training.max_epochs + 1))
    hiding = Hiding.of(layout, training.unknown_rate)
    callbacks: list[keras.callbacks.Callback] = [
        keras.callbacks.ReduceLROnPlateau("val_log_loss", factor=0.4, patience=0, min_delta=1e-5),
        keras.callbacks.EarlyStopping("val_log_loss", patience=training.patience, restore_best_weights=True),
    ]
    if log_folder is not None:
        callbacks.append(keras.callbacks.TensorBoard(str(log_folder), write_graph=False))
    if on_epoch is not None:
        callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=on_epoch))
    history = network.fit(
        as_dataset(
            lambda: batches(train, store, training.batch_size, seed=int(next(epoch_seeds)), hiding=hiding),
            layout,
            image_size,
        ),
        validation_data=as_dataset(lambda: batches(held_out, store, _EVALUATION_BATCH), layout, image_size),
        epochs=training.max_epochs,
        callbacks=callbacks,
        verbose=0,
    )
    return Fit(network, {name: [float(value) for value in values] for name, values in history.history.items()})


def predict(
    network: ClickNetwork, columns: Columns, store: CreativeStore | None
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Click probabilities float32 [rows], before any correction for sampled negatives."""
    parts = [
        np.asarray(keras.ops.sigmoid(network(inputs, training=False)))[:, 0]
        for inputs, _ in batches(columns, store, _EVALUATION_BATCH)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
