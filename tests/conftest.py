"""Fixtures that every package's tests share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.models.tiny_model import TinyModel

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Excerpts of public click logs, which are not shipped with the project."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real click logs at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """A trained and exported model with a column of every role; not to be changed."""
    # Imported here: tests that need no model should not wait for TensorFlow.
    from tests.models.tiny_model import train_tiny_model

    return train_tiny_model(tmp_path_factory.mktemp("tiny_model"))
