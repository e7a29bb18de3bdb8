"""A small trained model that reads texts, for the tests that need one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from adclick.models.settings import NetworkSettings, TrainingSettings
from adclick.models.trainer import train
from adclick.schema.feature_table import parse_feature_table
from tests.models.tiny_model import as_example, transform_of

Array = np.ndarray[Any, Any]
VOCABULARY = [f"{first}{second}" for first in ("ba", "ko", "mi", "tu", "re") for second in ("lam", "nox", "dir", "pel")]


def headlines(count: int, random: np.random.Generator) -> list[str]:
    return [" ".join(random.choice(VOCABULARY, 4)) for _ in range(count)]


def impressions(effect: float, rows: int = 20_000) -> tuple[list[str], Array]:
    """The headlines of impressions, clicked more where the word `balam` is in them, and the clicks."""
    random = np.random.default_rng(5)
    texts = headlines(600, random)
    shown = random.integers(0, len(texts), rows)
    logits = -2.5 + effect * np.array(["balam" in text for text in texts])
    clicked = (random.random(rows) < 1 / (1 + np.exp(-logits[shown]))).astype(np.float32)
    return [texts[index] for index in shown], clicked


FEATURES = parse_feature_table(
    {
        "clicked": {"role": "label"},
        "site": {"role": "categorical"},
        "the headline": {"role": "text", "hash_buckets": 8_192},
        "lede": {"role": "text", "max_words": 10},
    }
)
NEW = "balam in a new text"


def train_text_model(folder: Path) -> tuple[Path, list[bytes]]:
    """Trains and exports a model on generated headlines; gives its folder and held-out examples."""
    texts, clicked = impressions(1.5, 6_000)
    rows = [
        {
            "clicked": [int(label)],
            "site": [b"s%d" % (number % 5)],
            "the headline": [b"<b>%b</b>" % text.encode()] if number % 50 else [],
            "lede": [b"lede %d" % (number % 3)],
        }
        for number, (text, label) in enumerate(zip(texts, clicked, strict=True))
    ]
    transform_of(rows[:5_000], FEATURES, folder / "transform")
    files = []
    for name, part in (("train", rows[:5_000]), ("validation", rows[5_000:])):
        files.append(str(folder / name))
        with tf.io.TFRecordWriter(files[-1]) as writer:
            for row in part:
                writer.write(as_example(row))
    train(
        FEATURES,
        NetworkSettings(embedding_dimension=4, hidden_units=(8,)),
        TrainingSettings(max_epochs=2, batch_size=256),
        16,
        str(folder / "transform"),
        files[:1],
        files[1:],
        [],
        str(folder / "model"),
        str(folder / "logs"),
    )
    return folder / "model", [as_example(row) for row in rows[5_000:5_100]]
