"""Batches: every impression once, the distinct creatives once, in an order that the seed decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from adclick.models.features import InputLayout
from adclick.models.network import CATEGORIES
from adclick.models.trainer import TrainingData, load_training_data
from adclick.models.training_data import Columns, Hiding, TrainingCreatives, batches
from adclick.schema.roles.inputs import CategoryField
from tests.models.tiny_model import FEATURES, IMAGE_SIZE, TinyModel, as_example, make_creatives, write_creatives

ROWS = 103


def columns() -> Columns:
    random = np.random.default_rng(0)
    return Columns(
        categories=np.stack([np.arange(ROWS), random.integers(0, 5, ROWS)], axis=1).astype(np.int32),
        multiples=np.zeros((ROWS, 0), np.int32),
        numbers=np.zeros((ROWS, 0), np.float32),
        creative=random.integers(-1, 4, ROWS).astype(np.int32),
        clicked=random.integers(0, 2, ROWS).astype(np.float32),
    )


@pytest.fixture
def store(tmp_path: Path) -> TrainingCreatives:
    return TrainingCreatives([write_creatives(tmp_path / "c", make_creatives(4, seed=3))], IMAGE_SIZE, tmp_path)


@pytest.mark.parametrize("batch_size", [1, 10, 103, 500])
@pytest.mark.parametrize("seed", [None, 1])
def test_every_row_comes_once(store: TrainingCreatives, batch_size: int, seed: int | None) -> None:
    data = columns()
    seen = []
    for batch in batches(data, store, batch_size, seed=seed, fresh=4):
        assert len(batch.clicked) <= batch_size and len(batch.images) <= 4
        for row, creative, slot, label in zip(
            batch.inputs[CATEGORIES][:, 0], batch.creative, batch.fresh_slot, batch.clicked, strict=True
        ):
            seen.append(int(row))
            assert label == data.clicked[row]
            assert creative == data.creative[row] + 1
            assert (slot > 0) == (creative > 0), "every image is there when all may come"
            if slot:
                assert batch.fresh[slot - 1] == creative
                image = store.images(np.array([creative - 1]))[0]
                np.testing.assert_array_equal(batch.images[slot - 1], image)
    assert sorted(seen) == list(range(ROWS))
    assert (seen == sorted(seen)) == (seed is None)


def test_only_some_creatives_bring_their_images(store: TrainingCreatives) -> None:
    brought = set()
    for batch in batches(columns(), store, 50, seed=1, fresh=2):
        assert len(batch.fresh) == len(batch.images) == len(set(batch.fresh.tolist())) == 2
        np.testing.assert_array_equal(batch.fresh_slot > 0, np.isin(batch.creative, batch.fresh))
        brought |= set(batch.fresh.tolist())
    assert len(brought) > 2, "others each time"


def test_the_seed_decides_the_order(store: TrainingCreatives) -> None:
    def order(seed: int) -> list[int]:
        parts = [batch.inputs[CATEGORIES][:, 0] for batch in batches(columns(), store, 10, seed=seed)]
        return np.concatenate(parts).tolist()

    assert order(1) == order(1) != order(2)


def test_hiding_shows_the_unknown(store: TrainingCreatives) -> None:
    fields = (CategoryField("ad", 1, ROWS + 1, ROWS), CategoryField("hour", 1, 5, None))
    hidden = shown = creatives = 0
    for batch in batches(columns(), store, 20, seed=1, hiding=Hiding.of(InputLayout(fields, (), True), 0.5)):
        hidden += int((batch.inputs[CATEGORIES][:, 0] == ROWS).sum())
        shown += int((batch.inputs[CATEGORIES][:, 0] < ROWS).sum())
        creatives += int((batch.creative > 0).sum())
        assert batch.inputs[CATEGORIES][:, 1].max() < 5
    assert 25 < hidden < 78 and hidden + shown == ROWS
    assert creatives < 0.75 * (columns().creative >= 0).sum()


def test_a_field_may_be_hidden_more_often() -> None:
    fields = (CategoryField("ad", 1, 9, 8), CategoryField("site", 1, 9, 8), CategoryField("hour", 1, 9, None))
    hiding = Hiding.of(InputLayout(fields, (), True), 0.1, {"ad": 0.5, "hour": 0.5})
    assert hiding.rates.tolist() == [0.5, 0.1, 0.0] and hiding.creative_rate == 0.1


def test_creatives_are_found_by_key(store: TrainingCreatives) -> None:
    made = make_creatives(4, seed=3)
    keys = np.array([*(creative.key for creative in made), "", "unknown"], dtype=np.bytes_)
    positions = store.positions(keys)
    assert positions[4:].tolist() == [-1, -1] and sorted(positions[:4].tolist()) == [0, 1, 2, 3]
    for creative, position in zip(made, positions, strict=False):
        assert store.images(np.array([position]))[0].tobytes() == creative.image


def test_a_store_without_creatives_serves_none(tmp_path: Path) -> None:
    empty = TrainingCreatives([], IMAGE_SIZE, tmp_path)
    assert len(empty) == 0 and empty.positions(np.array([b"x"])).tolist() == [-1]
    none = replace(columns(), creative=np.full(ROWS, -1, np.int32))
    (batch,) = batches(none, empty, 200, fresh=3)
    assert batch.images.shape == (1, IMAGE_SIZE, IMAGE_SIZE, 3) and not batch.images.any()
    assert not batch.creative.any() and not len(batch.fresh)


def test_compressed_files_are_read_like_plain_ones(tiny_model: TinyModel, tmp_path: Path) -> None:
    packed = str(tmp_path / "validation.gz")
    with tf.io.TFRecordWriter(packed, "GZIP") as writer:
        for row in tiny_model.rows[700:]:
            writer.write(as_example(row))

    def load(name: str, files: list[str]) -> TrainingData:
        (tmp_path / name).mkdir()
        graph = str(tiny_model.transform_graph)
        creatives = [tiny_model.creative_file]
        return load_training_data(FEATURES, graph, [], files, creatives, IMAGE_SIZE, tmp_path / name)

    plain, compressed = load("plain", [tiny_model.files[1]]).validation, load("packed", [packed]).validation
    assert len(plain) == len(compressed) == 200
    for part in ("categories", "multiples", "numbers", "creative", "clicked"):
        np.testing.assert_array_equal(getattr(plain, part), getattr(compressed, part))
