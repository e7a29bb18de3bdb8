"""Exports a fitted network as one SavedModel: raw features in, click probability out.

The variables are held as `tf.Variable`s in a `tf.Module`: a Keras 3 model saved as itself loads in Python, but not in
the C++ loader of TensorFlow Serving. The embeddings of the window's creatives stand in a text asset that a lookup table
reads, so that `extend_creatives` can add creatives to a model that is already exported.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.attribution import Attribution
from models.description import ModelDescription, write_description
from models.features import InputLayout, transformed_name
from models.fitting import Predictor
from models.images import decode_and_resize
from models.network import ClickNetwork
from models.requests import MISSING
from models.training_data import CreativeStore
from models.transform_graph import TransformGraph
from schema.feature_table import FeatureTable, MultiValued, RawType

SERVING_DEFAULT = "serving_default"
SERVING_EXAMPLES = "serving_examples"
EMBED_CREATIVE = "embed_creative"
SCORE = "score"
EXPLAIN = "explain"
CLICK_PROBABILITY = "click_probability"
CREATIVE_EMBEDDING = "creative_embedding"
COLUMNS = "columns"
CONTRIBUTIONS = "contributions"
LOGIT = "logit"
BASELINE_LOGIT = "baseline_logit"
HEAT_MAP = "heat_map"
CREATIVES_ASSET = "creatives.tsv"

#: An image value up to this long is a creative's key; no image file is as short.
_LONGEST_KEY = 64
_NO_CREATIVE = "<no creative>"
_TF_TYPES = {RawType.STRING: tf.string, RawType.FLOAT: tf.float32, RawType.INT: tf.int64}


def request_specs(features: FeatureTable) -> dict[str, tf.TensorSpec]:
    """The inputs of `serving_default`: a tensor [batch] per column, [batch, values] for multi-valued ones."""
    return {
        name: tf.TensorSpec(
            [None, None] if isinstance(column, MultiValued) else [None], _TF_TYPES[features.raw_type(name)], name
        )
        for name, column in features.model_inputs.items()
    }


class ServingModule(tf.Module):  # type: ignore[misc]
    """The fitted network, the Transform graph and the creatives' embeddings behind the serving signatures."""

    def __init__(
        self,
        network: ClickNetwork,
        transform_graph: TransformGraph,
        features: FeatureTable,
        image_size: int,
        negative_sampling_rate: float,
        creatives_file: str | None,
    ) -> None:
        super().__init__()
        # Past tf.Module's tracking: only the weights are to be saved, not Keras's own signatures of every layer.
        object.__setattr__(self, "_network", network)
        self._features = features
        self._layout: InputLayout = network.layout
        self._image_size = image_size
        self._rate = negative_sampling_rate
        self.weights = [variable.value for variable in network.variables]
        self.transform_graph = transform_graph
        self.creatives: tf.lookup.StaticHashTable | None = None
        if creatives_file is not None:
            self.creatives = tf.lookup.StaticHashTable(
                tf.lookup.TextFileInitializer(creatives_file, tf.string, 0, tf.string, 1, delimiter="\t"), ""
            )

    def embed(self, images: tf.Tensor) -> tf.Tensor:
        """Embeds creatives given by key or encoded bytes, string [n], as float32 [n, creative_width].

        A known key is looked up; bytes are decoded and embedded, once for each distinct image; anything else gets the
        embedding of the unknown creative.
        """
        assert self.creatives is not None
        width = self._network.creative_width
        distinct, where = tf.unique(images)
        found = self.creatives.lookup(distinct)
        is_known = tf.strings.length(found) > 0
        is_image = tf.logical_and(tf.logical_not(is_known), tf.strings.length(distinct) > _LONGEST_KEY)
        embedded = tf.tile(self._network.unknown_embedding(), [tf.size(distinct), 1])
        known_rows = tf.where(is_known)
        decoded = tf.io.decode_raw(tf.io.decode_base64(tf.boolean_mask(found, is_known)), tf.float32)
        embedded = tf.tensor_scatter_nd_update(embedded, known_rows, tf.reshape(decoded, [-1, width]))
        embedded = tf.cond(
            tf.reduce_any(is_image),
            lambda: tf.tensor_scatter_nd_update(
                embedded, tf.where(is_image), self._embed_bytes(tf.boolean_mask(distinct, is_image))
            ),
            lambda: embedded,
        )
        return tf.gather(embedded, where)

    def _embed_bytes(self, encoded: tf.Tensor) -> tf.Tensor:
        return self._network.embed_images(self._decode(encoded))

    def _decode(self, encoded: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda one: decode_and_resize(one, self._image_size),
            encoded,
            fn_output_signature=tf.TensorSpec([self._image_size, self._image_size, 3], tf.uint8),
        )

    def probability(self, inputs: Mapping[str, tf.Tensor], creatives: tf.Tensor | None) -> tf.Tensor:
        """Click probabilities float32 [batch] of raw features as requests carry them."""
        categories, several, numbers = self._transformed(inputs)
        logit = self._network.score(categories, several, numbers, creatives)
        probability = tf.sigmoid(logit)
        # He et al. 2014, "Practical lessons from predicting clicks on ads at Facebook", section 6.3.
        return probability / (probability + (1 - probability) / self._rate)

    def _transformed(self, inputs: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor | None, tf.Tensor]:
        """The categories, multi-valued categories and numbers that the network takes, of raw features."""
        raw = {
            name: _as_sparse(inputs[name], self._features.raw_type(name))
            for name in self._features.model_inputs
            if name != self._features.image_name
        }
        transformed = self.transform_graph(raw)

        def stacked(names: Sequence[str], dtype: tf.DType) -> tf.Tensor:
            values = [tf.cast(transformed[transformed_name(name)], dtype) for name in names]
            columns = [value if value.shape.rank == 2 else value[:, None] for value in values]
            return tf.concat(columns, axis=1)

        batch = tf.shape(next(iter(inputs.values())))[0]
        numbers = stacked(self._layout.numbers, tf.float32) if self._layout.numbers else tf.zeros([batch, 0])
        singles = [field.name for field in self._layout.singles]
        categories = stacked(singles, tf.int32) if singles else tf.zeros([batch, 0], tf.int32)
        multiples = [field.name for field in self._layout.multiples]
        return categories, stacked(multiples, tf.int32) if multiples else None, numbers

    def explanation(self, inputs: Mapping[str, tf.Tensor], attribution: Attribution) -> dict[str, tf.Tensor]:
        """The outputs of `explain`: what `attribution` says of raw features as requests carry them.

        Logits are those of the served probabilities. All outputs have a row for each impression, as TensorFlow Serving
        asks of answers in rows.
        """
        image = self._features.image_name
        creatives = self.embed(inputs[image]) if image is not None else None
        categories, several, numbers = self._transformed(inputs)
        found = attribution.explain(categories, several, numbers, creatives)
        batch = tf.shape(found.contributions)[0]
        # The correction for a sampled log, as `probability` makes it, moves every logit by this much.
        correction = math.log(self._rate)
        outputs = {
            COLUMNS: tf.tile(tf.constant([attribution.columns]), [batch, 1]),
            CONTRIBUTIONS: found.contributions,
            LOGIT: found.logit + correction,
            BASELINE_LOGIT: found.baseline + correction,
        }
        if image is not None:
            shown = tf.where(tf.strings.length(inputs[image]) > _LONGEST_KEY)
            rows = shown[:, 0]
            maps = attribution.heat_map(tf.gather(found.inputs, rows), self._decode(tf.gather(inputs[image], rows)))
            shape = tf.stack([tf.cast(batch, tf.int64), self._image_size, self._image_size])
            outputs[HEAT_MAP] = tf.ensure_shape(
                tf.scatter_nd(shown, maps, shape), [None, self._image_size, self._image_size]
            )
        return outputs

    def signatures(self) -> dict[str, Any]:
        """The concrete functions by signature name."""
        features, image = self._features, self._features.image_name
        specs = request_specs(features)

        def predict(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            creatives = self.embed(inputs[image]) if image is not None else None
            return {CLICK_PROBABILITY: self.probability(inputs, creatives)}

        def serving_default(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return predict(inputs)

        def serving_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            return predict(parse_examples(examples, features))

        attribution = Attribution(self._network, features)

        def explain(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.explanation(inputs, attribution)

        signatures = {
            EXPLAIN: _graph(explain).get_concrete_function(**specs),
            SERVING_DEFAULT: _graph(serving_default).get_concrete_function(**specs),
            SERVING_EXAMPLES: _graph(serving_examples).get_concrete_function(
                tf.TensorSpec([None], tf.string, "examples")
            ),
        }
        if image is None:
            return signatures

        def embed_creative(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return {CREATIVE_EMBEDDING: self.embed(images)}

        def score(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            embedding = inputs.pop(CREATIVE_EMBEDDING)
            return {CLICK_PROBABILITY: self.probability(inputs, embedding)}

        score_specs = {name: spec for name, spec in specs.items() if name != image}
        score_specs[CREATIVE_EMBEDDING] = tf.TensorSpec(
            [None, self._network.creative_width], tf.float32, CREATIVE_EMBEDDING
        )
        signatures[EMBED_CREATIVE] = _graph(embed_creative).get_concrete_function(
            tf.TensorSpec([None], tf.string, image)
        )
        signatures[SCORE] = _graph(score).get_concrete_function(**score_specs)
        return signatures


def _graph(function: Callable[..., Any], **options: Any) -> Any:
    # There is no Python control flow to convert, and looking for it takes seconds.
    return tf.function(function, autograph=False, **options)


def _as_sparse(values: tf.Tensor, raw_type: RawType) -> tf.SparseTensor:
    if values.shape.rank == 1:
        values = values[:, None]
    if raw_type is RawType.STRING:
        present = tf.not_equal(values, "")
    elif raw_type is RawType.FLOAT:
        present = tf.logical_not(tf.math.is_nan(values))
    else:
        present = values >= 0
    indices = tf.where(present)
    shape = tf.shape(values, out_type=tf.int64)
    return tf.SparseTensor(indices, tf.gather_nd(values, indices), shape)


def parse_examples(examples: tf.Tensor, features: FeatureTable) -> dict[str, tf.Tensor]:
    """The inputs of `serving_default` from serialized `tf.Example`s, string [batch]."""
    # A feature that is present with no value is missing, too; a fixed-length parse would refuse it.
    spec = {name: tf.io.VarLenFeature(_TF_TYPES[features.raw_type(name)]) for name in features.model_inputs}
    parsed = {}
    for name, values in tf.io.parse_example(examples, spec).items():
        shape = tf.maximum(values.dense_shape, tf.constant([0, 1], tf.int64))
        default = tf.constant(MISSING[features.raw_type(name)], values.dtype)
        dense = tf.sparse.to_dense(tf.SparseTensor(values.indices, values.values, shape), default)
        parsed[name] = dense if isinstance(features.root[name], MultiValued) else dense[:, 0]
    return parsed


def export(
    network: ClickNetwork,
    transform_graph: TransformGraph,
    features: FeatureTable,
    store: CreativeStore | None,
    image_size: int,
    negative_sampling_rate: float,
    model_folder: str,
    work_folder: Path,
) -> None:
    """Writes the SavedModel.

    Args:
        network: The fitted network.
        transform_graph: The Transform graph that fed it.
        features: The feature table.
        store: The creatives whose embeddings the model holds; None without images.
        image_size: Edge of the images in pixels.
        negative_sampling_rate: The share of unclicked impressions that the log kept.
        model_folder: Where the SavedModel goes.
        work_folder: A local folder for the asset until it is copied into the model.
    """
    creatives_file = None
    if store is not None:
        creatives_file = str(work_folder / CREATIVES_ASSET)
        with open(creatives_file, "w", encoding="utf-8") as stream:
            stream.write(creative_line(_NO_CREATIVE, np.asarray(network.unknown_embedding())[0]))
            for positions, embeddings in Predictor(network, store).embed_creatives():
                keys = store.keys[positions]
                stream.writelines(creative_line(key.decode(), row) for key, row in zip(keys, embeddings, strict=True))
    module = ServingModule(
        network,
        transform_graph,
        features,
        image_size,
        negative_sampling_rate,
        creatives_file,
    )
    tf.saved_model.save(module, model_folder, signatures=module.signatures())
    description = ModelDescription(
        features=features, image_size=image_size, negative_sampling_rate=negative_sampling_rate
    )
    write_description(model_folder, description)


def creative_line(key: str, embedding: npt.NDArray[np.float32]) -> str:
    """A line of the creatives asset: the key and the embedding's little-endian float32 bytes in base64."""
    # tf.io.decode_base64 reads the web-safe alphabet.
    return f"{key}\t{base64.urlsafe_b64encode(embedding.astype('<f4').tobytes()).decode()}\n"
