"""Operations of other packages than TensorFlow, which models of tf.text and of Decision Forests need."""

from __future__ import annotations

import importlib
import logging
import re
import threading
from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

from adclick.serving.errors import NotFoundError

logger = logging.getLogger(__name__)

#: The modules that register operations, and the packages that bring them.
_PROVIDERS = {
    "tensorflow_text": "tensorflow-text",
    "tensorflow_decision_forests.tensorflow.ops.inference.api": "tensorflow-decision-forests",
}
_UNKNOWN = re.compile(r"Op type not registered '([^']+)'|No op named (\w+) in defined operations")
_registering = threading.Lock()
_Loaded = TypeVar("_Loaded")


def with_foreign_ops(load: Callable[[], _Loaded]) -> _Loaded:
    """Loads a model, and if that fails for want of an operation, again with those of the packages that are installed.

    Raises:
        NotFoundError: An operation is unknown in spite of them; says which and what may bring it.
    """
    try:
        return load()
    except (tf.errors.NotFoundError, ValueError) as error:
        if not _UNKNOWN.search(str(error)):
            raise
    missing = _register()
    try:
        return load()
    except (tf.errors.NotFoundError, ValueError) as error:
        match = _UNKNOWN.search(str(error))
        if match is None:
            raise
        hint = (
            f"It may be one of {' or '.join(missing)}, which adclick's extra `ops` installs."
            if missing
            else "It is none of tensorflow-text's or tensorflow-decision-forests', which are installed."
        )
        name = match[1] or match[2]
        raise NotFoundError(f"Op type not registered '{name}' in binary running on this machine. {hint}") from error


def _register() -> list[str]:
    """Imports the modules that are installed; returns the packages of those that are not."""
    missing = []
    with _registering:
        for module, package in _PROVIDERS.items():
            try:
                importlib.import_module(module)
            except ImportError:
                missing.append(package)
            except Exception as error:  # A package for another TensorFlow fails as it likes.
                logger.warning("%s cannot be imported: %s: %s", module, type(error).__name__, error)
                missing.append(package)
    return missing
