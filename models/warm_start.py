"""Starts a network from the weights of an exported model, whose vocabularies may have been smaller."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from adclick.models.description import read_description
from adclick.models.features import InputLayout, input_layout
from adclick.models.network import ClickNetwork
from adclick.models.preprocessing import read_vocabularies
from adclick.models.transform_graph import TransformGraph
from adclick.schema.feature_table import FeatureTable
from adclick.schema.roles.inputs import CategoryField
from adclick.storage.literal_path import literal_path

_CHECKPOINT = "variables/variables"
_KEY = "weights/{}/.ATTRIBUTES/VARIABLE_VALUE"


def warm_start(network: ClickNetwork, transform_graph: TransformGraph, model_folder: str) -> str | None:
    """Gives a new network the weights of an exported one.

    Values that both vocabularies hold keep their embeddings; new ones keep the small random numbers they have. The
    effects of values stay as they were estimated from the data, which tells them better than an older model.

    Args:
        network: The new network; its weights are replaced.
        transform_graph: The Transform graph that feeds it.
        model_folder: A SavedModel of ours.

    Returns:
        None, or why the network stays as it was: the two have other features or another shape.
    """
    features = read_description(model_folder).features
    try:
        old_vocabularies = _by_tensor(features, read_vocabularies(model_folder, features))
    except tf.errors.NotFoundError:
        return "the vocabularies of the model are written in an older form"
    old = input_layout(features, lambda name: len(old_vocabularies[name]))
    new = network.layout
    if _shape(old) != _shape(new):
        return "the features of the model have changed"
    vocabularies = _by_tensor(transform_graph.features, transform_graph.vocabularies())
    reader = tf.train.load_checkpoint(os.path.join(literal_path(model_folder), _CHECKPOINT))
    shapes = reader.get_variable_to_shape_map()
    if _KEY.format(len(network.variables) - 1) not in shapes or _KEY.format(len(network.variables)) in shapes:
        return "the network of the model has other layers"

    def moved(before: Sequence[CategoryField], now: Sequence[CategoryField]) -> npt.NDArray[np.int64]:
        parts, start = [], 0
        for one, other in zip(before, now, strict=True):
            rows = _old_rows(one, other, old_vocabularies, vocabularies)
            parts.append(np.where(rows >= 0, rows + start, -1))
            start += one.size
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    tables = {id(network.embeddings.embeddings): moved(old.singles, new.singles)}
    for index, (one, other) in enumerate(zip(old.multiples, new.multiples, strict=True)):
        rows = moved([one], [other])
        tables[id(network.multiple_embeddings[index].embeddings)] = rows
        tables[id(network.multiple_effects[index].embeddings)] = rows
    kept = {id(network.effects.embeddings), id(network.linear.bias)}
    values = []
    for index, variable in enumerate(network.variables):
        if id(variable) in kept or not variable.trainable:
            continue
        value = reader.get_tensor(_KEY.format(index))
        if id(variable) in tables:
            rows = tables[id(variable)]
            if value.shape[1:] != tuple(variable.shape[1:]):
                return "the embeddings of the model have another width"
            value = np.where((rows >= 0)[:, None], value[np.maximum(rows, 0)], variable.numpy())
        if value.shape != tuple(variable.shape):
            return "the network of the model has layers of other sizes"
        values.append((variable, value))
    for variable, value in values:
        variable.assign(value)
    return None


def _shape(layout: InputLayout) -> object:
    fields = [(field.name, field.width, field.unknown is None) for field in layout.categories]
    return fields, layout.numbers, layout.has_image, layout.texts


def _old_rows(
    before: CategoryField,
    now: CategoryField,
    old_vocabularies: dict[str, list[bytes]],
    vocabularies: dict[str, list[bytes]],
) -> npt.NDArray[np.int64]:
    """For each number of a field, the number that the same value had; -1 for a value that had none."""
    if now.unknown is None:
        return np.where(np.arange(now.size) < before.size, np.arange(now.size), -1)
    number = {value: index for index, value in enumerate(old_vocabularies[before.name])}
    assert before.unknown is not None
    return np.array([*(number.get(value, -1) for value in vocabularies[now.name]), before.unknown], np.int64)


def _by_tensor(features: FeatureTable, vocabularies: Mapping[str, list[bytes]]) -> dict[str, list[bytes]]:
    tensors = features.tensor_names
    return {tensors[name]: values for name, values in vocabularies.items()}
