"""Exports a fitted network as one SavedModel: raw features in, click probability out.

The variables are held as `tf.Variable`s in a `tf.Module`: a Keras 3 model saved as itself loads in Python, but not in
the C++ loader of TensorFlow Serving. The embeddings of the window's creatives stand in a text asset that a lookup table
reads, so that `extend_creatives` can add creatives to a model that is already exported.
"""

from __future__ import annotations

import base64
import functools
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from adclick.models.attribution import Attribution
from adclick.models.description import ModelDescription, write_description
from adclick.models.features import InputLayout, text_columns
from adclick.models.fitting import Predictor
from adclick.models.images import decode_and_resize
from adclick.models.network import CATEGORIES, CELLS, CREATIVES, MULTIPLES, NUMBERS, TEXTS, ClickNetwork
from adclick.models.preprocessing import ColumnTransform, write_parameters
from adclick.models.requests import TENSOR_TYPES, parse_examples
from adclick.models.text import WordEffects, strongest_words, word_effects
from adclick.models.training_data import TrainingCreatives
from adclick.models.transform_graph import TransformGraph
from adclick.schema.feature_table import FeatureTable
from adclick.schema.signatures import (
    BASELINE_LOGIT,
    CLICK_PROBABILITY,
    COLUMNS,
    CONTRIBUTIONS,
    CREATIVE_EMBEDDING,
    EMBED_CREATIVE,
    EXPLAIN,
    EXTRA_FOLDER,
    HEAT_MAP,
    LOGIT,
    LONGEST_KEY,
    SCORE,
    SERVING_DEFAULT,
    SERVING_EXAMPLES,
    WORD_CONTRIBUTIONS,
    WORDS,
)

#: Of each text, so many words are named that add or take the most.
EXPLAINED_WORDS = 8
CREATIVES_ASSET = "creatives.tsv"

_NO_CREATIVE = "<no creative>"
_LARGEST_LOGIT = 16.0


def request_specs(features: FeatureTable) -> dict[str, tf.TensorSpec]:
    """The inputs of `serving_default`: a tensor [batch] per column, [batch, values] for multi-valued ones."""
    tensors = features.tensor_names
    return {
        name: tf.TensorSpec(
            [None, None] if column.is_list else [None],
            TENSOR_TYPES[features.raw_type(name)],
            tensors[name],
        )
        for name, column in features.model_inputs.items()
    }


def core_specs(layout: InputLayout, creative_width: int, effect_tables: int) -> dict[str, tf.TensorSpec]:
    """What the network takes of impressions, by name; parts that the model has not are left out."""
    width_of_multiples = sum(field.width for field in layout.multiples)
    parts = {
        CATEGORIES: (tf.int32, len(layout.singles), True),
        CELLS: (tf.int32, effect_tables, True),
        MULTIPLES: (tf.int32, width_of_multiples, bool(layout.multiples)),
        NUMBERS: (tf.float32, len(layout.numbers), True),
        CREATIVES: (tf.float32, creative_width, layout.has_image),
        TEXTS: (tf.float32, len(layout.texts), bool(layout.texts)),
    }
    return {name: tf.TensorSpec([None, width], kind, name) for name, (kind, width, has) in parts.items() if has}


class ServingModule(tf.Module):  # type: ignore[misc]
    """The fitted network, the transformation and the creatives' embeddings behind the serving signatures."""

    def __init__(
        self,
        network: ClickNetwork,
        transform: ColumnTransform,
        features: FeatureTable,
        image_size: int,
        negative_sampling_rate: float,
        creatives_file: str | None,
    ) -> None:
        super().__init__()
        # Past tf.Module's tracking: only the weights are to be saved, not Keras's own signatures of every layer.
        object.__setattr__(self, "_network", network)
        self._features = features
        self._image_size = image_size
        self._rate = negative_sampling_rate
        self.weights = [variable.value for variable in network.variables]
        self.transform = transform
        self.creatives: tf.lookup.StaticHashTable | None = None
        if creatives_file is not None:
            self.creatives = tf.lookup.StaticHashTable(
                tf.lookup.TextFileInitializer(creatives_file, tf.string, 0, tf.string, 1, delimiter="\t"), ""
            )
        #: What devices take of the model: past columns and their values, it is arithmetic alone.
        specs = core_specs(transform.layout, network.creative_width, len(network.effect_offsets))
        self.core = _graph(self.trace_core, input_signature=[specs])
        self.effect_cells = _graph(network.effect_cells, input_signature=[specs[CATEGORIES]])
        self.word_effects = [weights.value for weights in network.text_effects]
        self._shared = _SharedGraphs.of(self, features, network.creative_width)

    def embed(self, images: tf.Tensor) -> tf.Tensor:
        """Embeds creatives given by key or encoded bytes, string [n], as float32 [n, creative_width].

        A known key is looked up; bytes are decoded and embedded, once for each distinct image; anything else gets the
        embedding of the unknown creative.
        """
        return self._shared.embed(images)

    def trace_embed(self, images: tf.Tensor) -> tf.Tensor:
        """Adds the operations of `embed` to a graph."""
        assert self.creatives is not None
        width = self._network.creative_width
        distinct, where = tf.unique(images)
        found = self.creatives.lookup(distinct)
        is_known = tf.strings.length(found) > 0
        is_image = tf.logical_and(tf.logical_not(is_known), tf.strings.length(distinct) > LONGEST_KEY)
        embedded = tf.tile(self._network.unknown_embedding(), [tf.size(distinct), 1])
        known_rows = tf.where(is_known)
        decoded = tf.io.decode_raw(tf.io.decode_base64(tf.boolean_mask(found, is_known)), tf.float32)
        embedded = tf.tensor_scatter_nd_update(embedded, known_rows, tf.reshape(decoded, [-1, width]))
        embedded = tf.cond(
            tf.reduce_any(is_image),
            lambda: tf.tensor_scatter_nd_update(
                embedded,
                tf.where(is_image),
                self._network.embed_images(self._decode(tf.boolean_mask(distinct, is_image))),
            ),
            lambda: embedded,
        )
        return tf.gather(embedded, where)

    def _decode(self, encoded: tf.Tensor) -> tf.Tensor:
        return _batch_decoder(self._image_size)(encoded)

    def probability(self, inputs: Mapping[str, tf.Tensor], creatives: tf.Tensor | None) -> tf.Tensor:
        """Click probabilities float32 [batch] of raw features as requests carry them."""
        columns = [inputs[name] for name in self._shared.columns]
        return self._shared.probability(columns, [] if creatives is None else [creatives])

    def trace_probability(self, inputs: Mapping[str, tf.Tensor], creatives: tf.Tensor | None) -> tf.Tensor:
        """Adds the operations of `probability` to a graph."""
        categories, several, numbers = self._transformed(inputs, creatives)
        texts, _ = self._texts(inputs)
        cells = self.effect_cells(categories)
        parts = {
            CATEGORIES: categories,
            CELLS: cells,
            MULTIPLES: several,
            NUMBERS: numbers,
            CREATIVES: creatives,
            TEXTS: texts,
        }
        return self.core({name: part for name, part in parts.items() if part is not None})

    def trace_core(self, parts: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Adds to a graph what makes click probabilities, float32 [batch], of the network's inputs (`core_specs`)."""
        logit = self._network.score(
            parts[CATEGORIES],
            parts.get(MULTIPLES),
            parts[NUMBERS],
            parts.get(CREATIVES),
            texts=parts.get(TEXTS),
            cells=parts[CELLS],
        )
        # Beyond, a probability of float32 is 0 or 1, which nothing is.
        probability = tf.sigmoid(tf.clip_by_value(logit, -_LARGEST_LOGIT, _LARGEST_LOGIT))
        # He et al. 2014, "Practical lessons from predicting clicks on ads at Facebook", section 6.3.
        return probability / (probability + (1 - probability) / self._rate)

    def _transformed(
        self, inputs: Mapping[str, tf.Tensor], creatives: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor | None, tf.Tensor]:
        """The categories, multi-valued categories and numbers that the network takes, of raw features."""
        # Of a model of images alone, only the creatives tell how many impressions there are.
        categories, multiples, numbers = self.transform(inputs, rows_of=creatives)
        return categories, multiples if self.transform.layout.multiples else None, numbers

    def _texts(self, inputs: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor | None, list[WordEffects]]:
        """The effects of texts, float32 [batch, texts], and what their words add; None without texts."""
        fields = self.transform.layout.texts
        if not fields:
            return None, []
        found = [
            word_effects(inputs[name], field, weights.value)
            for name, field, weights in zip(
                text_columns(self._features), fields, self._network.text_effects, strict=True
            )
        ]
        return tf.stack([words.effects for words in found], axis=1), found

    def explanation(self, inputs: Mapping[str, tf.Tensor], attribution: Attribution) -> dict[str, tf.Tensor]:
        """The outputs of `explain`: what `attribution` says of raw features as requests carry them.

        Logits are those of the served probabilities. All outputs have a row for each impression, as TensorFlow Serving
        asks of answers in rows.
        """
        image = self._features.image_name
        creatives = self.embed(inputs[image]) if image is not None else None
        categories, several, numbers = self._transformed(inputs, creatives)
        texts, words = self._texts(inputs)
        found = attribution.explain(categories, several, numbers, creatives, texts)
        batch = tf.shape(found.contributions)[0]
        # The correction for a sampled log, as `probability` makes it, moves every logit by this much.
        correction = math.log(self._rate)
        outputs = {
            COLUMNS: tf.tile(tf.constant([attribution.columns], tf.string), [batch, 1]),
            CONTRIBUTIONS: found.contributions,
            LOGIT: found.logit + correction,
            BASELINE_LOGIT: found.baseline + correction,
        }
        if words:
            strongest = [strongest_words(of_text, batch, EXPLAINED_WORDS) for of_text in words]
            outputs[WORDS] = tf.concat([found for found, _ in strongest], axis=1)
            outputs[WORD_CONTRIBUTIONS] = tf.concat([added for _, added in strongest], axis=1)
        if image is not None:
            shown = tf.where(tf.strings.length(inputs[image]) > LONGEST_KEY)
            rows = shown[:, 0]
            maps = attribution.heat_map(tf.gather(found.inputs, rows), self._decode(tf.gather(inputs[image], rows)))
            shape = tf.stack([tf.cast(batch, tf.int64), self._image_size, self._image_size])
            outputs[HEAT_MAP] = tf.ensure_shape(
                tf.scatter_nd(shown, maps, shape), [None, self._image_size, self._image_size]
            )
        return outputs

    def signatures(self) -> dict[str, Any]:
        """The concrete functions by signature name; their arguments are called as the columns' tensors are."""
        features, image = self._features, self._features.image_name
        tensors = features.tensor_names
        specs = {tensors[name]: spec for name, spec in request_specs(features).items()}

        def by_column(arguments: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {name: arguments[tensor] for name, tensor in tensors.items() if tensor in arguments}

        def predict(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            creatives = self.embed(inputs[image]) if image is not None else None
            return {CLICK_PROBABILITY: self.probability(inputs, creatives)}

        def serving_default(**arguments: tf.Tensor) -> dict[str, tf.Tensor]:
            return predict(by_column(arguments))

        def serving_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            return predict(parse_examples(examples, features))

        attribution = Attribution(self._network, features)

        def explain(**arguments: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.explanation(by_column(arguments), attribution)

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

        embedding = features.creative_embedding_name

        def score(**arguments: tf.Tensor) -> dict[str, tf.Tensor]:
            return {CLICK_PROBABILITY: self.probability(by_column(arguments), arguments[embedding])}

        score_specs = {tensor: spec for tensor, spec in specs.items() if tensor != tensors[image]}
        score_specs[embedding] = tf.TensorSpec([None, self._network.creative_width], tf.float32, embedding)
        signatures[EMBED_CREATIVE] = _graph(embed_creative).get_concrete_function(
            tf.TensorSpec([None], tf.string, tensors[image])
        )
        signatures[SCORE] = _graph(score).get_concrete_function(**score_specs)
        return signatures


@dataclass(frozen=True)
class _SharedGraphs:
    """What several signatures do, traced once: each signature's graph calls it.

    No `tf.function` of these is tracked by the module, lest it be saved a second time as a function of its own.

    Attributes:
        columns: The columns that `probability` takes, in order.
        embed: `ServingModule.embed`.
        probability: `ServingModule.probability` of a list of the columns' tensors, and one of the creatives' if any.
    """

    columns: tuple[str, ...]
    embed: Any
    probability: Any

    @staticmethod
    def of(module: ServingModule, features: FeatureTable, creative_width: int) -> _SharedGraphs:
        image = features.image_name
        specs = {name: spec for name, spec in request_specs(features).items() if name != image}
        columns = tuple(specs)

        def probability(values: list[tf.Tensor], creatives: list[tf.Tensor]) -> tf.Tensor:
            return module.trace_probability(dict(zip(columns, values, strict=True)), next(iter(creatives), None))

        # Unnamed, as the columns' names need not be names of TensorFlow's.
        unnamed = [tf.TensorSpec(spec.shape, spec.dtype) for spec in specs.values()]
        creatives = [] if image is None else [tf.TensorSpec([None, creative_width], tf.float32)]
        return _SharedGraphs(
            columns,
            _graph(module.trace_embed, input_signature=[tf.TensorSpec([None], tf.string)]),
            _graph(probability, input_signature=[unnamed, creatives]),
        )


@functools.lru_cache(maxsize=4)
def _batch_decoder(size: int) -> Any:
    """Decodes encoded images, string [n], to uint8 [n, size, size, 3]; the same graph whichever model calls it."""
    return _graph(
        lambda encoded: tf.map_fn(
            lambda one: decode_and_resize(one, size),
            encoded,
            fn_output_signature=tf.TensorSpec([size, size, 3], tf.uint8),
        ),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )


def _graph(function: Callable[..., Any], **options: Any) -> Any:
    # There is no Python control flow to convert, and looking for it takes seconds.
    return tf.function(function, autograph=False, **options)


def export(
    network: ClickNetwork,
    transform_graph: TransformGraph,
    features: FeatureTable,
    store: TrainingCreatives | None,
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
        transform_graph.columns,
        features,
        image_size,
        negative_sampling_rate,
        creatives_file,
    )
    tf.saved_model.save(module, model_folder, signatures=module.signatures())
    name_inputs_as_columns(model_folder, features)
    description = ModelDescription(
        features=features,
        image_size=image_size,
        negative_sampling_rate=negative_sampling_rate,
        limits=transform_graph.parameters.limits,
    )
    write_description(model_folder, description)
    write_parameters(transform_graph.parameters, os.path.join(model_folder, EXTRA_FOLDER))


def name_inputs_as_columns(model_folder: str, features: FeatureTable) -> None:
    """Gives the inputs of a SavedModel's signatures the columns' names, whatever these are.

    TensorFlow saves them under the names of arguments, which must be those of Python; a server takes any text. Whoever
    calls a signature of the loaded model from Python gives arguments by the columns' tensor names.
    """
    names = {tensor: name for name, tensor in features.tensor_names.items() if tensor != name}
    if not names:
        return
    path = os.path.join(model_folder, tf.saved_model.SAVED_MODEL_FILENAME_PB)
    with tf.io.gfile.GFile(path, "rb") as stream:
        model = saved_model_pb2.SavedModel.FromString(stream.read())
    for graph in model.meta_graphs:
        for signature in graph.signature_def.values():
            for tensor in names.keys() & signature.inputs.keys():
                signature.inputs[names[tensor]].CopyFrom(signature.inputs[tensor])
                del signature.inputs[tensor]
    with tf.io.gfile.GFile(path, "wb") as stream:
        stream.write(model.SerializeToString(deterministic=True))


def creative_line(key: str, embedding: npt.NDArray[np.float32]) -> str:
    """A line of the creatives asset: the key and the embedding's little-endian float32 bytes in base64."""
    # tf.io.decode_base64 reads the web-safe alphabet.
    return f"{key}\t{base64.urlsafe_b64encode(embedding.astype('<f4').tobytes()).decode()}\n"
