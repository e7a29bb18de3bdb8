"""A channel: which bundles devices are to run, and what share of them; a JSON file beside the bundles.

`CHANNEL.json` holds a text and its signature (Ed25519, RFC 8032, over its bytes in UTF-8; base64), by a key that signs
bundles. The text is JSON: the channel's name, a serial number that grows with each file, and the releases, the newest
first: version, address (relative to the file, or in full), size, SHA-256 and share. A device runs the first whose share
it belongs to, and follows no file of a smaller serial than one that it followed: whoever can write there can hold the
newest file back, but neither make one nor bring an older one back.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .bundle import MAXIMUM_BYTES
from .errors import ChannelRefused, EdgeError
from .keys import has_signed

FORMAT = 2
_UNSIGNED_FORMAT = 1
MAXIMUM_CHANNEL_BYTES = 1 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_REMEDY = "Publish it anew: adclick edge publish."
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


@dataclass(frozen=True)
class Channel:
    """What a channel's file says.

    Attributes:
        name: The channel's.
        serial: Greater than that of every file that this channel had before.
        releases: The newest first.
    """

    name: str
    serial: int
    releases: tuple[Release, ...]


def write_channel(name: str, serial: int, releases: Sequence[Release], private_key: Any) -> bytes:
    """The channel's file; what stands after a release for all devices reaches nobody, and is left out.

    Args:
        name: The channel's.
        serial: As `Channel.serial`.
        releases: In any order.
        private_key: The `Ed25519PrivateKey` that signs.
    """
    kept: list[Release] = []
    for release in sorted(releases, key=lambda each: -each.version):
        if release.share > 0 and not any(each.share >= 100 for each in kept):
            kept.append(release)
    said = {"channel": name, "serial": serial, "releases": [asdict(release) for release in kept]}
    signed = json.dumps(said, ensure_ascii=False, allow_nan=False)
    signature = base64.b64encode(private_key.sign(signed.encode())).decode()
    content = {"format": FORMAT, "signed": signed, "signature": signature}
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def read_channel(content: bytes, name: str, public_keys: Sequence[Any]) -> Channel:
    """Verifies a channel's file and reads it; nothing of it is interpreted before its signature is found good.

    Args:
        content: The file.
        name: The channel's, so that no other's file is taken for its.
        public_keys: The `Ed25519PublicKey`s that are trusted; any of them may have signed.

    Raises:
        ChannelRefused: It is none, unsigned, or of another channel.
    """
    signed, signature = _signed_part(content)
    if not has_signed(signed.encode(), signature, public_keys):
        raise ChannelRefused(
            "unsigned", "no trusted key has signed it", "Give the public key of who published it (--public-key)."
        )
    channel = _interpret(signed)
    if channel.name != name:
        raise ChannelRefused("unsigned", f"it was signed for the channel {channel.name!r}", "Publish it anew.")
    return channel


def read_unverified_channel(content: bytes) -> Channel:
    """What a channel's file says, whoever signed it; for who makes nothing run by it.

    Raises:
        ChannelRefused: It is none.
    """
    return _interpret(_signed_part(content)[0])


def _signed_part(content: bytes) -> tuple[str, bytes]:
    """What is signed, and its signature."""
    try:
        document = json.loads(content)
        written = document["format"]
        if written == FORMAT:
            return str(document["signed"]), base64.b64decode(document["signature"], validate=True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(error) from None
    if written == _UNSIGNED_FORMAT:
        raise ChannelRefused("unsigned", "it bears no signature, as an earlier adclick wrote it", _REMEDY)
    raise ChannelRefused("wrong_runtime", f"its format is {written!r}, this runtime reads {FORMAT}"[:300])


def _interpret(signed: str) -> Channel:
    try:
        said = json.loads(signed)
        channel = Channel(said["channel"], said["serial"], tuple(_release(row) for row in said["releases"]))
        if type(channel.name) is not str or type(channel.serial) is not int or channel.serial < 0:
            raise ValueError(f"channel {channel.name!r}, serial {channel.serial!r}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(error) from None
    return channel


def _damaged(error: Exception) -> ChannelRefused:
    return ChannelRefused("damaged", f"the channel's file is none: {error!r}"[:300], _REMEDY)


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
