"""The files of Examples and Creatives artifacts."""

from __future__ import annotations

from collections.abc import Sequence

from tfx import types
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils


def split_files(artifacts: Sequence[types.Artifact], split: str) -> list[str]:
    """TFRecord files of one split of every artifact, sorted; none where a split is empty."""
    files: list[str] = []
    for artifact in artifacts:
        folder = artifact_utils.get_split_uri([artifact], split)
        if fileio.exists(folder):
            files += sorted(fileio.glob(io_utils.all_files_pattern(folder)))
    return files


def creative_files(artifacts: Sequence[types.Artifact]) -> list[str]:
    """TFRecord files of creatives of every artifact, the newest month's first."""
    ordered = sorted(artifacts, key=lambda artifact: artifact.id, reverse=True)
    return [file for artifact in ordered for file in sorted(fileio.glob(f"{artifact.uri}/creatives-*"))]
