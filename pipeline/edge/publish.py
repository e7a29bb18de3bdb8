"""Puts bundles where devices look for them: beside a channel's file, which says who is to run what."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from adclick.schema.errors import ConfigError
from adclick.serving.edge.bundle import MAXIMUM_BYTES, read_bundle
from adclick.serving.edge.channel import (
    MAXIMUM_CHANNEL_BYTES,
    Release,
    channel_file_name,
    read_channel,
    write_channel,
)
from adclick.serving.edge.errors import EdgeError
from adclick.serving.edge.keys import read_public_key
from adclick.storage import bucket, filesystem
from adclick.storage.folder_lock import alone_in

#: Where bundles are, below the folder of the channels' files.
BUNDLES = "bundles"


@dataclass(frozen=True)
class Published:
    """What a channel says now.

    Attributes:
        file: The channel's file.
        release: What was published.
        releases: All that it names, the newest first.
    """

    file: str
    release: Release
    releases: tuple[Release, ...]


def run_publish(bundle: Path, *, to: str, channel: str, share: float, public_keys: Sequence[Path] = ()) -> Published:
    """Publishes a bundle in a channel, or changes the share of one that is published.

    The bundle is there before the channel's file names it, and the file is replaced at once, so that a device sees the
    old or the new state. Two who publish at the same time in a bucket: the last one's file counts.

    Args:
        bundle: The bundle's file.
        to: A folder, here or in a bucket.
        channel: The channel's name.
        share: Of the devices, in percent; 0 takes it back from those that do not run it yet.
        public_keys: Who may have signed it, as on the devices; where none is given its signature is not verified.

    Raises:
        ConfigError: The bundle is none, an older one than is published, or signed by somebody else; the folder cannot
            be read or written, or the channel's file is none.
    """
    try:
        content = bundle.read_bytes()
        name = channel_file_name(channel)
        version = _version(content, public_keys)
    except OSError as error:
        raise ConfigError(f"{bundle}: cannot be read: {error.strerror}", "Name the bundle's file.") from None
    except EdgeError as error:
        raise ConfigError(f"{bundle}: {error.message}", error.remedy) from None
    digest = hashlib.sha256(content).hexdigest()
    release = Release(version, f"{BUNDLES}/{version}-{digest[:16]}.bundle", digest, len(content), share)
    file = filesystem.join(to, name)
    if not bucket.is_bucket_address(to):
        _make_folder(filesystem.join(to, BUNDLES))
    with alone(to):
        before = releases_of(file)
        _check(before, release, file)
        target = filesystem.join(to, release.address)
        if not filesystem.isfile(target) or filesystem.size(target) != len(content):
            with filesystem.open_write_atomic(target) as stream:
                stream.write(content)
        after = write_channel([*(each for each in before if each.sha256 != digest), release])
        with filesystem.open_write_atomic(file) as stream:
            stream.write(after)
    return Published(file, release, read_channel(after))


def alone(folder: str) -> AbstractContextManager[object]:
    """Keeps others of this machine from changing a folder of channels; a bucket knows no such thing."""
    return contextlib.nullcontext() if "://" in folder else alone_in(folder)


def _version(content: bytes, public_keys: Sequence[Path]) -> int:
    if len(content) > MAXIMUM_BYTES:
        raise EdgeError(f"more than {MAXIMUM_BYTES} bytes")
    if public_keys:
        return read_bundle(content, [read_public_key(path) for path in public_keys], runtime="9999").version
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            manifest = json.loads(archive.read("manifest.json"))
            for name, stated in manifest["files"].items():
                if hashlib.sha256(archive.read(name)).hexdigest() != stated["sha256"]:
                    raise EdgeError(f"{name} is not what the manifest says", "Export it anew.")
        version = manifest["version"]
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EdgeError(f"is no bundle: {error}", "Make one: adclick edge export.") from None
    if type(version) is not int:
        raise EdgeError(f"is no bundle: version {version!r}", "Make one: adclick edge export.")
    return version


def releases_of(file: str) -> tuple[Release, ...]:
    """What a channel's file names, the newest first; nothing where there is no such file.

    Raises:
        ConfigError: It is none.
    """
    if not filesystem.isfile(file):
        return ()
    try:
        return read_channel(filesystem.read(file, MAXIMUM_CHANNEL_BYTES))
    except EdgeError as error:
        raise ConfigError(f"{file}: {error.message}", "Move it away; nothing was changed.") from None


def _check(before: Sequence[Release], release: Release, file: str) -> None:
    others = [each for each in before if each.sha256 != release.sha256]
    for other in others:
        if other.version == release.version:
            raise ConfigError(
                f"{file}: names another bundle of version {release.version}", "Export it anew with another --version."
            )
    newest = max((each.version for each in before), default=-1)
    if release.version < newest and replace(release, share=0.0) not in [replace(each, share=0.0) for each in before]:
        raise ConfigError(
            f"{file}: names version {newest}, which is newer than {release.version}",
            "Devices never go back to an older number: export it anew, and it gets a greater one.",
        )


def _make_folder(folder: str) -> None:
    try:
        filesystem.make_folder(folder)
    except OSError as error:
        raise ConfigError(
            f"{folder}: {error.strerror or error}", f"Choose another folder than {os.path.dirname(folder)}."
        ) from None
