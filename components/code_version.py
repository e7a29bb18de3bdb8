"""Which code made an artifact."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import metadata
from pathlib import Path

#: The custom property of artifacts that carries it.
CODE_VERSION = "code_version"

_PACKAGES = ("components", "models", "pipeline", "schema")


@lru_cache
def code_version() -> str:
    """The release and a hash of the sources, such as `0.1.0+3f2a9c41d0e7`; a changed line changes it."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for file in sorted(file for package in _PACKAGES for file in (root / package).rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    try:
        release = metadata.version("adclick")
    except metadata.PackageNotFoundError:
        release = "unreleased"
    return f"{release}+{digest.hexdigest()[:12]}"
