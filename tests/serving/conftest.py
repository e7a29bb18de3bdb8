"""Real SavedModels for the tests of serving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

SITES = ["news", "games"]


class AdModel(tf.Module):
    """A click model in small: its site table is a vocabulary asset; `bias` tells versions apart."""

    def __init__(self, bias: float, vocabulary: Path) -> None:
        super().__init__()
        self.bias = tf.Variable(bias)
        self.sites = tf.lookup.StaticVocabularyTable(
            tf.lookup.TextFileInitializer(
                str(vocabulary),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            num_oov_buckets=1,
        )

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="site"),
            tf.TensorSpec([None], tf.float32, name="age"),
            tf.TensorSpec([None], tf.int64, name="position"),
            tf.TensorSpec([None, None], tf.string, name="tags"),
        ]
    )
    def click(self, site: tf.Tensor, age: tf.Tensor, position: tf.Tensor, tags: tf.Tensor) -> dict[str, tf.Tensor]:
        known = tf.where(tf.math.is_nan(age), 0.0, age)
        count = tf.reduce_sum(tf.cast(tags != "", tf.float32), axis=1)
        total = tf.cast(self.sites.lookup(site), tf.float32) + known + tf.cast(position, tf.float32) + count
        return {"click_probability": total + self.bias}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image")])
    def embed(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "length": tf.strings.length(image),
            "image_bytes": image,
            "text": tf.strings.as_string(tf.strings.length(image)),
        }


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """SavedModels by version; the bias of a version is a thousand times its number."""
    folder = tmp_path_factory.mktemp("models")
    vocabulary = folder / "sites.txt"
    vocabulary.write_text("\n".join(SITES) + "\n")

    def saved(version: int) -> Path:
        path = folder / str(version)
        if not path.exists():
            model = AdModel(1000.0 * version, vocabulary)
            tf.saved_model.save(model, str(path), signatures={"serving_default": model.click, "embed": model.embed})
        return path

    return saved


@pytest.fixture(scope="session")
def half_plus_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TensorFlow 1 model: y = x / 2 + 2 from variables, and a second signature that looks words up in an asset."""
    folder = tmp_path_factory.mktemp("half_plus_two")
    vocabulary = folder / "words.txt"
    vocabulary.write_text("zero\none\n")
    path = folder / "1"
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 1], name="x")
        slope = v1.get_variable("slope", initializer=0.5, use_resource=False)
        y = tf.add(tf.multiply(x, slope), 2.0, name="y")
        words = v1.placeholder(tf.string, [None], name="words")
        asset = tf.constant(str(vocabulary))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset)
        table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                asset, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            ),
            default_value=-1,
        )
        indices = table.lookup(words)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        define = v1.saved_model.predict_signature_def
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            [v1.saved_model.tag_constants.SERVING],
            signature_def_map={
                "serving_default": define({"x": x}, {"y": y}),
                "lookup": define({"words": words}, {"index": indices}),
            },
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()
    vocabulary.unlink()
    return path
