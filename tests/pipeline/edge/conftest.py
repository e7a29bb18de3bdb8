"""Fixtures of the tests of bundles."""

from __future__ import annotations

from pathlib import Path

import pytest

from adclick.pipeline.edge.export import create_key_files


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `private.pem` and `public.pem`."""
    folder = tmp_path_factory.mktemp("keys")
    create_key_files(folder)
    return folder
