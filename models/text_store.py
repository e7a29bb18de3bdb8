"""The distinct texts of training data, each taken apart once, however many impressions show it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from scipy import sparse

from adclick.models.text import tokenise
from adclick.schema.roles.inputs import TextField

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int32]

#: Of texts so many different keys there are that no two texts of a log are likely to share one.
_KEYS = (1 << 63) - 1
#: Texts are taken apart so many at a time.
_AT_A_TIME = 1_024


class _Tokens(NamedTuple):
    """The tokens of the texts of a field: of each text how many, and one after the other their buckets."""

    lengths: npt.NDArray[np.int64]
    buckets: npt.NDArray[np.int32]


class TextStore:
    """The distinct texts of each field by their place; tokens lie in temporary files, a few bytes a text in memory.

    Attributes:
        fields: The fields.
    """

    def __init__(self, fields: Sequence[TextField]) -> None:
        self.fields = tuple(fields)
        self._places: list[dict[int, int]] = [{} for _ in fields]
        self._lengths: list[list[npt.NDArray[np.int64]]] = [[] for _ in fields]
        # They go with the store.
        self._files = [tempfile.TemporaryFile() for _ in fields]  # noqa: SIM115
        text = [tf.TensorSpec([None], tf.string)]
        self._key: Any = tf.function(lambda texts: tf.strings.to_hash_bucket_fast(texts, _KEYS), text, autograph=False)
        self._take_apart: list[Any] = [
            tf.function(lambda texts, field=field: _lengths_and_buckets(texts, field), text, autograph=False)
            for field in fields
        ]

    def positions(self, texts: npt.NDArray[np.object_]) -> Positions:
        """The places of texts [rows, fields], int32 [rows, fields]; new ones get new places."""
        found = np.zeros(texts.shape, np.int32)
        for number in range(len(self.fields)):
            column = texts[:, number]
            keys, first, where = np.unique(
                self._key(tf.constant(column, tf.string)).numpy(), return_index=True, return_inverse=True
            )
            places = self._places[number]
            new = [index for index, key in enumerate(keys.tolist()) if key not in places]
            for start in range(0, len(new), _AT_A_TIME):
                some = new[start : start + _AT_A_TIME]
                lengths, buckets = self._take_apart[number](tf.constant(list(column[first[some]]), tf.string))
                self._lengths[number].append(lengths.numpy().astype(np.int64))
                self._files[number].write(buckets.numpy().astype(np.int32).tobytes())
                for index in some:
                    places[int(keys[index])] = len(places)
            found[:, number] = np.array([places[key] for key in keys.tolist()], np.int32)[where]
        return found

    def matrix(self, number: int) -> sparse.csr_matrix:
        """The texts of a field by bucket, float64 [texts, buckets]: how often each token is in a text, over the root of
        how many tokens the text has."""
        tokens = self._tokens(number)
        shares = np.repeat(1 / np.sqrt(np.maximum(tokens.lengths, 1)), tokens.lengths)
        bounds = np.concatenate([[0], np.cumsum(tokens.lengths)])
        made = sparse.csr_matrix(
            (shares, np.array(tokens.buckets), bounds), (len(tokens.lengths), self.fields[number].buckets)
        )
        made.sum_duplicates()
        return made

    def effects(self, weights: Sequence[npt.NDArray[np.floating[Any]]]) -> npt.NDArray[np.float32]:
        """The effects of every text, float32 [most texts of a field, fields], of each field's effects [buckets]."""
        most = max(len(places) for places in self._places)
        found = np.zeros((most, len(self.fields)), np.float32)
        for number, weight in enumerate(weights):
            if np.any(weight):
                tokens = self._tokens(number)
                owner = np.repeat(np.arange(len(tokens.lengths)), tokens.lengths)
                told = np.bincount(owner, np.asarray(weight, np.float64)[tokens.buckets], len(tokens.lengths))
                found[: len(told), number] = told / np.sqrt(np.maximum(tokens.lengths, 1))
        return found

    def _tokens(self, number: int) -> _Tokens:
        file = self._files[number]
        file.flush()
        lengths = np.concatenate([np.zeros(0, np.int64), *self._lengths[number]])
        if not lengths.sum():
            return _Tokens(lengths, np.zeros(0, np.int32))
        return _Tokens(lengths, np.memmap(file, np.int32, "r"))


def _lengths_and_buckets(texts: tf.Tensor, field: TextField) -> tuple[tf.Tensor, tf.Tensor]:
    """How many tokens each text has, int32 [n], and the tokens' buckets in the texts' order."""
    tokens = tokenise(texts, field)
    owner = tf.gather(tokens.text_of_word, tokens.word_of_token)
    order = tf.argsort(owner, stable=True)
    lengths = tf.math.unsorted_segment_sum(tf.ones_like(owner), owner, tf.size(texts))
    return lengths, tf.gather(tokens.buckets, order)


@dataclass(frozen=True)
class Texts:
    """The texts of impressions.

    Attributes:
        positions: int32 [rows, fields], each text's place in the store.
        store: The distinct texts.
    """

    positions: Positions
    store: TextStore

    def take(self, rows: Any) -> Texts:
        """Those of these impressions."""
        return Texts(self.positions[rows], self.store)

    def joined(self, later: Texts) -> Texts:
        """These and then others, of the same store."""
        if later.store is not self.store:
            raise ValueError("texts of two stores cannot be joined")
        return Texts(np.concatenate([self.positions, later.positions]), self.store)
