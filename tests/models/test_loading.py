"""A model is loaded once, and anew when it was written anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from adclick.models.loading import load_model


def save(folder: Path, value: float) -> None:
    module = tf.Module()
    module.value = tf.Variable(value)
    tf.saved_model.save(module, str(folder))


def test_a_model_is_kept_until_it_is_written_anew(tmp_path: Path) -> None:
    save(tmp_path, 1.0)
    first = load_model(str(tmp_path))
    assert load_model(str(tmp_path)) is first and first.value.numpy() == 1.0
    save(tmp_path, 2.0)
    assert load_model(str(tmp_path)).value.numpy() == 2.0


def test_no_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="does not exist"):
        load_model(str(tmp_path))
