"""Fixtures that every package's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Excerpts of public click logs, which are not shipped with the project."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real click logs at {REAL_DATA}")
    return REAL_DATA
