"""What a Keras user would write for a click log: a `tf.data` CSV reader, lookup layers and `fit`.

Prints how many examples a second it trains on, after a warm-up, as JSON.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

os.environ["TF_USE_LEGACY_KERAS"] = "0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_rs
import pandas as pd
import tensorflow as tf
import typer

_WARM_UP_STEPS = 50


def build(
    vocabularies: Mapping[str, Sequence[str]],
    numeric: Sequence[str],
    embedding_dimension: int,
    cross_layers: int,
    cross_projection: int,
    hidden_units: Sequence[int],
) -> keras.Model:
    """DCN-V2 beside an MLP, from raw columns: strings and floats of shape [batch] to a click probability [batch, 1]."""
    inputs: dict[str, Any] = {}
    parts = []
    # Keras matches a dictionary's inputs by their sorted names.
    for name in sorted([*vocabularies, *numeric]):
        if name in numeric:
            inputs[name] = keras.Input((1,), name=name)
            parts.append(inputs[name])
            continue
        inputs[name] = keras.Input((1,), dtype="string", name=name)
        values = list(vocabularies[name])
        numbers = keras.layers.StringLookup(vocabulary=values)(inputs[name])
        parts.append(keras.layers.Flatten()(keras.layers.Embedding(len(values) + 1, embedding_dimension)(numbers)))
    joined = keras.layers.Concatenate()(parts)
    crossed = hidden = joined
    for _ in range(cross_layers):
        crossed = keras_rs.layers.FeatureCross(projection_dim=cross_projection)(joined, crossed)
    for units in hidden_units:
        hidden = keras.layers.Dense(units, activation="relu")(hidden)
    output = keras.layers.Dense(1, activation="sigmoid")(keras.layers.Concatenate()([crossed, hidden]))
    model = keras.Model(inputs, output)
    model.compile("adam", "binary_crossentropy")
    return model


class _Clock(keras.callbacks.Callback):  # type: ignore[misc]
    """Notes when the warm-up ended and what came after it; stops in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._limit = seconds
        self._start = 0.0
        self._steps = 0
        self.steps = 0
        self.seconds = 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._steps += 1
        if self._steps == _WARM_UP_STEPS:
            self._start = time.perf_counter()
        elif self._steps > _WARM_UP_STEPS:
            self.steps = self._steps - _WARM_UP_STEPS
            self.seconds = time.perf_counter() - self._start
            self.model.stop_training = self.seconds > self._limit


def main(
    csv: Annotated[Path, typer.Option(help="The click log.")],
    columns: Annotated[str, typer.Option(help="JSON: label, categorical and numeric columns.")],
    batch_size: int = 1_024,
    seconds: float = 20.0,
    embedding_dimension: int = 8,
    cross_layers: int = 2,
    cross_projection: int = 32,
    hidden_units: tuple[int, int] = (64, 32),
) -> None:
    """Trains for about so many seconds."""
    names = json.loads(columns)
    frame = pd.read_csv(csv, usecols=names["categorical"], dtype=str)
    vocabularies = {name: sorted(frame[name].dropna().unique()) for name in names["categorical"]}
    model = build(vocabularies, names["numeric"], embedding_dimension, cross_layers, cross_projection, hidden_units)
    used = [*names["categorical"], *names["numeric"], names["label"]]
    dataset = tf.data.experimental.make_csv_dataset(
        str(csv),
        batch_size,
        select_columns=used,
        column_defaults=[""] * len(names["categorical"]) + [0.0] * len(names["numeric"]) + [0],
        label_name=names["label"],
        shuffle_buffer_size=10_000,
        prefetch_buffer_size=tf.data.AUTOTUNE,
    )
    dataset = dataset.map(lambda row, label: ({name: row[name][:, None] for name in sorted(row)}, label))
    clock = _Clock(seconds)
    # Keras stops only at the end of an epoch.
    model.fit(dataset, steps_per_epoch=_WARM_UP_STEPS, epochs=1_000_000, verbose=0, callbacks=[clock])
    print(json.dumps({"examples_per_second": clock.steps * batch_size / clock.seconds}))


if __name__ == "__main__":
    typer.run(main)
