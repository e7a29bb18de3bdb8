"""What images do to clicks, learned before all else from one number per creative: cheap, and not lost in the noise.

A single impression says nearly nothing of an image, and a network that learns everything at once finds its effect late,
if before early stopping at all. What the other effects leave unexplained of a creative's clicks is one number that says
it, so the image tower first learns these: a pass costs an image per creative, however many impressions there are.

Source: the residuals are a generalised linear model's working response, weighed by what is known of each: its sampling
variance and the variance between creatives (Breslow & Clayton 1993, "Approximate inference in generalized linear mixed
models").
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from models.effects import Effects
from models.network import ClickNetwork
from models.training_data import Columns, CreativeStore

Floats = npt.NDArray[np.float64]

#: With fewer creatives than this there is nothing to generalise from.
_LEAST_CREATIVES = 50
_HELD_OUT_SHARE = 0.2
#: How many standard errors creatives that were kept back must be better explained, to count.
_EVIDENCE = 2.0
_BATCH = 64
_LEARNING_RATE = 0.002
_PATIENCE = 6
_MOST_PASSES = 40
#: Passes are fewer where they would embed more images than this in all.
_MOST_IMAGES = 200_000


def learn_image_effects(
    network: ClickNetwork, columns: Columns, store: CreativeStore, effects: Effects, image_fields: list[int], seed: int
) -> bool:
    """Trains the network's image tower, and what its logit takes from the image, on the residuals of creatives.

    Args:
        network: A network with an image tower; keeps its weights where images are not found to say anything.
        columns: Impressions.
        store: Their creatives.
        effects: The additive model of `columns`.
        image_fields: Positions of the fields that name a creative, whose effects hold what the image does.
        seed: Parts the creatives and shuffles them.

    Returns:
        Whether the images explain residuals of creatives that were kept back.
    """
    tower = network.image_tower
    if tower is None:
        return False
    residual, weight = creative_residuals(columns, effects, image_fields, len(store))
    known = np.flatnonzero(weight > 0)
    if len(known) < _LEAST_CREATIVES:
        return False
    order = np.random.default_rng(seed).permutation(known)
    kept_back, taught = np.split(order, [round(len(order) * _HELD_OUT_SHARE)])
    weight /= weight[known].mean()
    head = keras.layers.Dense(1, kernel_initializer=keras.initializers.RandomNormal(stddev=0.01, seed=seed))
    model = keras.Sequential([tower, head])
    model.compile(keras.optimizers.Adam(_LEARNING_RATE), loss="mse", jit_compile=False)
    stop = keras.callbacks.EarlyStopping(patience=_PATIENCE, restore_best_weights=True)
    untrained = tower.get_weights()
    model.fit(
        _Residuals(store, taught, residual, weight, seed),
        validation_data=_Residuals(store, kept_back, residual, weight),
        epochs=max(1, min(_MOST_PASSES, _MOST_IMAGES // len(known))),
        callbacks=[stop],
        verbose=0,
    )
    explained = model.predict(_Residuals(store, kept_back, residual, weight), verbose=0)[:, 0]
    mean = np.average(residual[taught], weights=weight[taught])
    gain = weight[kept_back] * ((residual[kept_back] - mean) ** 2 - (residual[kept_back] - explained) ** 2)
    if gain.mean() < _EVIDENCE * gain.std() / np.sqrt(len(gain)):
        tower.set_weights(untrained)
        return False
    kernel, bias = head.get_weights()
    network.set_image_effect(kernel[:, 0], float(bias[0]))
    return True


def creative_residuals(
    columns: Columns, effects: Effects, image_fields: list[int], creatives: int
) -> tuple[Floats, Floats]:
    """What the effects other than the creative's own leave unexplained of each creative's clicks.

    Returns:
        The residual of each creative in logits, float64 [creatives], and how much each says: the inverse of its
        variance, 0 for a creative without impressions.
    """
    own = [table for table in effects.tables if set(table.fields) & set(image_fields)]
    others = Effects(effects.intercept, tuple(table for table in effects.tables if table not in own))
    shown = columns.creative >= 0
    creative = columns.creative[shown]
    probability = 1 / (1 + np.exp(-others.logits(columns.categories[shown])))
    score = np.bincount(creative, columns.clicked[shown] - probability, creatives)
    information = np.bincount(creative, probability * (1 - probability), creatives)
    known = information > 0
    residual = np.divide(score, information, out=np.zeros(creatives), where=known)
    sampling = np.divide(1.0, information, out=np.zeros(creatives), where=known)
    # By moments: what the residuals vary beyond their sampling.
    excess = float((score[known] ** 2 / information[known] - 1).sum())
    between = max(0.0, excess / float(information[known].sum()))
    weight = np.divide(1.0, sampling + between, out=np.zeros(creatives), where=known)
    return residual, weight


class _Residuals(keras.utils.PyDataset):  # type: ignore[misc]
    """Images with the residuals of their creatives and the weights of these, read batch by batch."""

    def __init__(
        self,
        store: CreativeStore,
        positions: npt.NDArray[np.int64],
        residual: Floats,
        weight: Floats,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self._store = store
        self._positions = positions
        self._residual = residual
        self._weight = weight
        self._random = None if seed is None else np.random.default_rng(seed)

    def __len__(self) -> int:
        return -(-len(self._positions) // _BATCH)

    def __getitem__(self, index: int) -> tuple[Any, Any, Any]:
        chosen = self._positions[index * _BATCH : (index + 1) * _BATCH]
        return self._store.images(chosen), self._residual[chosen, None], self._weight[chosen]

    def on_epoch_end(self) -> None:
        if self._random is not None:
            self._positions = self._random.permutation(self._positions)
