"""Exported models, loaded once for all the steps that one process runs."""

from __future__ import annotations

import functools
import os
from typing import Any

import tensorflow as tf

from adclick.storage.literal_path import literal_path

#: The candidate and the baseline.
_KEPT = 2
#: Written with every SavedModel; no two have the same.
_FINGERPRINT = "fingerprint.pb"


def load_model(folder: str) -> Any:
    """The SavedModel in a folder, as `tf.saved_model.load` gives it; the two last asked for are kept.

    Loading costs seconds, most of them rebuilding functions in Python. A folder that was written anew is loaded anew;
    one whose creatives are extended in place must be so before it is first asked for.

    Raises:
        OSError: There is no SavedModel.
    """
    path = os.path.join(folder, _FINGERPRINT)
    if not tf.io.gfile.exists(path):
        return tf.saved_model.load(literal_path(folder))
    with tf.io.gfile.GFile(path, "rb") as stream:
        return _load(folder, stream.read())


@functools.lru_cache(maxsize=_KEPT)
def _load(folder: str, fingerprint: bytes) -> Any:
    return tf.saved_model.load(literal_path(folder))


def forget_models() -> None:
    """Lets go of the models that are kept."""
    _load.cache_clear()
