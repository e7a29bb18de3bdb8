"""The same file twice under two names within a drop."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from adclick.storage import filesystem

_HASHED_BYTES = 1 << 20
#: Without an identifier or a time, files of a few rows may be equal by chance.
_LEAST_BYTES = 1_024


def find_copies(paths: Sequence[str], *, rows_are_unique: bool) -> dict[str, str]:
    """By address of a file, that of another with the very same bytes, and a shorter name if any.

    Args:
        paths: The files of a drop; only those of equal size are read.
        rows_are_unique: Whether rows have an identifier or a time, so that no two files are equal by chance.
    """
    by_size: dict[int, list[str]] = defaultdict(list)
    for path in paths:
        by_size[filesystem.size(path)].append(path)
    copies: dict[str, str] = {}
    for size, alike in by_size.items():
        if len(alike) == 1 or size < (1 if rows_are_unique else _LEAST_BYTES):
            continue
        first_with: dict[str, str] = {}
        # A copy's name is the longer: `impressions (1).csv`.
        for path in sorted(alike, key=lambda path: (len(path), path)):
            original = first_with.setdefault(sha256_of(path), path)
            if original != path:
                copies[path] = original
    return copies


def sha256_of(path: str) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with filesystem.open_read(path) as stream:
        while block := stream.read(_HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()
