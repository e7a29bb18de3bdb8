"""A channel: which bundles devices are to run, and what share of them; a JSON file beside the bundles.

`CHANNEL.json` holds releases, the newest first: version, address (relative to the file, or in full), size, SHA-256 and
share. A device runs the first whose share it belongs to. The file is not signed: whoever can change it can hold bundles
back, but not make a device run what no trusted key has signed, or anything older than what ran well there.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .bundle import MAXIMUM_BYTES
from .errors import EdgeError

FORMAT = 1
MAXIMUM_CHANNEL_BYTES = 1 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Release:
    """A bundle that devices are to run.

    Attributes:
        version: Its number.
        address: Where it is, relative to the channel's file or in full.
        sha256: Of the file, hexadecimal.
        size: Its bytes.
        share: Of all devices, in percent.
    """

    version: int
    address: str
    sha256: str
    size: int
    share: float


def channel_file_name(channel: str) -> str:
    """The name of a channel's file.

    Raises:
        EdgeError: The channel's name is none.
    """
    if not _NAME.fullmatch(channel):
        raise EdgeError(f"{channel!r}: no name of a channel", "Use lower-case letters, digits, _ and -: stable, beta.")
    return f"{channel}.json"


def write_channel(releases: Sequence[Release]) -> bytes:
    """The channel's file; what stands after a release for all devices reaches nobody, and is left out."""
    kept: list[Release] = []
    for release in sorted(releases, key=lambda each: -each.version):
        if release.share > 0 and not any(each.share >= 100 for each in kept):
            kept.append(release)
    content = {"format": FORMAT, "releases": [asdict(release) for release in kept]}
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def read_channel(content: bytes) -> tuple[Release, ...]:
    """The releases of a channel's file.

    Raises:
        EdgeError: It is none.
    """
    try:
        document = json.loads(content)
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r}, this runtime reads {FORMAT}")
        return tuple(_release(row) for row in document["releases"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EdgeError(f"the channel's file is none: {error!r}"[:300], "Write it by adclick edge publish.") from None


def _release(row: dict[str, object]) -> Release:
    release = Release(**row)  # type: ignore[arg-type]
    for name, kind in (("version", int), ("size", int), ("address", str), ("sha256", str)):
        if type(row[name]) is not kind:
            raise ValueError(f"{name} is {row[name]!r}")
    if not 0 < release.size <= MAXIMUM_BYTES or release.version < 0 or not _DIGEST.fullmatch(release.sha256):
        raise ValueError(f"release {row!r}")
    if type(row["share"]) not in (int, float) or not math.isfinite(release.share):
        raise ValueError(f"share is {row['share']!r}")
    return release


def release_for(releases: Sequence[Release], device: str) -> Release | None:
    """The release that a device is to run: the first whose share it belongs to; None if there is none."""
    return next((release for release in releases if belongs(device, release)), None)


def belongs(device: str, release: Release) -> bool:
    """Whether a device belongs to a release's share, by a hash of its name.

    Whoever belongs to a share belongs to every greater one of the same bundle; each bundle begins with other devices.
    """
    digest = hashlib.sha256(f"{release.sha256}\n{device}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < release.share / 100 * 2.0**64
