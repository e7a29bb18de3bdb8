"""Puts bundles where devices look for them: beside a channel's file, which says who is to run what."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adclick.schema.errors import ConfigError
from adclick.serving.edge.bundle import read_bundle
from adclick.serving.edge.channel import (
    MAXIMUM_CHANNEL_BYTES,
    Channel,
    Release,
    channel_file_name,
    read_channel,
    read_unverified_channel,
    write_channel,
)
from adclick.serving.edge.errors import BundleRefused, ChannelRefused, EdgeError
from adclick.serving.edge.keys import read_private_key, read_public_key
from adclick.storage import bucket, filesystem
from adclick.storage.folder_lock import alone_in

#: Where bundles are, below the folder of the channels' files.
BUNDLES = "bundles"
_MOVE_AWAY = "Move it away, and publish anew what it named; nothing was changed."
_OTHER_KEY = "Where somebody else signed it, give their --public-key."


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


def run_publish(
    bundle: Path, *, to: str, channel: str, share: float, key: Path, public_keys: Sequence[Path] = ()
) -> Published:
    """Publishes a bundle in a channel, or changes the share of one that is published.

    The bundle is there before the channel's file names it, and the file is replaced at once, so that a device sees the
    old or the new state. Two who publish at the same time in a bucket: the last one's file counts.

    Args:
        bundle: The bundle's file.
        to: A folder, here or in a bucket.
        channel: The channel's name.
        share: Of the devices, in percent; 0 takes it back from those that do not run it yet.
        key: The file of the private key, which signs the channel's file.
        public_keys: Who else may have signed the bundle and the channel's last file, as on the devices.

    Raises:
        ConfigError: The bundle is none, an older one than is published, or signed by somebody else; the folder cannot
            be read or written, or the channel's file is none or signed by somebody else.
    """
    try:
        private_key = read_private_key(key)
        trusted = [private_key.public_key(), *map(read_public_key, public_keys)]
        content = bundle.read_bytes()
        name = channel_file_name(channel)
        # One for a later runtime may be published: devices that are too old say so.
        version = read_bundle(content, trusted, runtime="9999").version
    except OSError as error:
        raise ConfigError(f"{bundle}: cannot be read: {error.strerror}", "Name the bundle's file.") from None
    except BundleRefused as error:
        raise ConfigError(f"{bundle}: {error.message}", error.remedy) from None
    except EdgeError as error:
        raise ConfigError(error.message, error.remedy) from None
    digest = hashlib.sha256(content).hexdigest()
    release = Release(version, f"{BUNDLES}/{version}-{digest[:16]}.bundle", digest, len(content), share)
    file = filesystem.join(to, name)
    if not bucket.is_bucket_address(to):
        _make_folder(filesystem.join(to, BUNDLES))
    with alone(to):
        before = _channel_of(file, channel, trusted)
        _check(before.releases, release, file)
        target = filesystem.join(to, release.address)
        if not filesystem.isfile(target) or filesystem.size(target) != len(content):
            with filesystem.open_write_atomic(target) as stream:
                stream.write(content)
        releases = [*(each for each in before.releases if each.sha256 != digest), release]
        # The time, lest one whose file is gone begins again with what devices have followed.
        after = write_channel(channel, max(before.serial + 1, int(time.time())), releases, private_key)
        with filesystem.open_write_atomic(file) as stream:
            stream.write(after)
    return Published(file, release, read_unverified_channel(after).releases)


def alone(folder: str) -> AbstractContextManager[object]:
    """Keeps others of this machine from changing a folder of channels; a bucket knows no such thing."""
    return contextlib.nullcontext() if bucket.is_bucket_address(folder) else alone_in(folder)


def _channel_of(file: str, channel: str, public_keys: Sequence[Any]) -> Channel:
    """What is published in a channel: what nobody who may has signed is not signed anew."""
    if not filesystem.isfile(file):
        return Channel(channel, -1, ())
    try:
        return read_channel(filesystem.read(file, MAXIMUM_CHANNEL_BYTES), channel, public_keys)
    except ChannelRefused as error:
        raise ConfigError(f"{file}: {error.message}", f"{_MOVE_AWAY} {_OTHER_KEY}") from None


def releases_of(file: str) -> tuple[Release, ...]:
    """What a channel's file names, the newest first, whoever signed it.

    Raises:
        ConfigError: It is none.
    """
    try:
        return read_unverified_channel(filesystem.read(file, MAXIMUM_CHANNEL_BYTES)).releases
    except ChannelRefused as error:
        raise ConfigError(f"{file}: {error.message}", _MOVE_AWAY) from None


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
