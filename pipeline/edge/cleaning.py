"""Deletes bundles that no channel names any more."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from adclick.pipeline.edge.publish import BUNDLES, alone, releases_of
from adclick.schema.errors import ConfigError
from adclick.storage import filesystem

_CHANNEL = ".json"
_BUNDLE = re.compile(r"(\d+)-[0-9a-f]{16}\.bundle")


@dataclass(frozen=True)
class Cleaned:
    """What was deleted, or would be.

    Attributes:
        deleted: Addresses of bundles, the oldest version first.
        size: Their bytes.
        named: How many bundles the channels name.
        kept: How many that no channel names stay.
        strange: Names beside the bundles that are no bundle's; they are left alone.
    """

    deleted: tuple[str, ...]
    size: int
    named: int
    kept: int
    strange: tuple[str, ...]


def clean_channels(folder: str, *, keep: int, dry_run: bool) -> Cleaned:
    """Deletes the bundles that no channel of a folder names, but for the newest.

    A device that fetches one of them meanwhile is told that it is gone, and takes what its channel names.

    Args:
        folder: The folder that devices look at, here or in a bucket.
        keep: How many that no channel names stay.
        dry_run: Whether nothing is deleted.

    Raises:
        ConfigError: There is no channel, or one's file is none; nothing was deleted. Or somebody in a bucket has
            meanwhile published a bundle that was deleted.
    """
    if not filesystem.isdir(folder):
        raise ConfigError(f"{folder}: no folder", "Name the folder that bundles are published to.")
    with alone(folder):
        named = _named(folder)
        names, _ = filesystem.list_entries(filesystem.join(folder, BUNDLES))
        bundles = {name: int(found[1]) for name in names if (found := _BUNDLE.fullmatch(name))}
        unnamed = sorted(set(bundles) - named, key=lambda name: (bundles[name], name))
        kept = min(keep, len(unnamed))
        going = unnamed[: len(unnamed) - kept]
        deleted = tuple(filesystem.join(folder, BUNDLES, name) for name in going)
        size = sum(map(filesystem.size, deleted))
        if not dry_run:
            for address in deleted:
                filesystem.delete(address)
            _check(folder, going)
    strange = tuple(sorted(set(names) - set(bundles)))
    return Cleaned(deleted, size, len(bundles) - len(unnamed), kept, strange)


def _named(folder: str) -> set[str]:
    """The file names of all releases of a folder's channels, whose addresses may also be full ones."""
    channels = [file for file in filesystem.list_files(folder) if file.endswith(_CHANNEL)]
    if not channels:
        raise ConfigError(f"{folder}: no channel is there", "Name the folder that bundles are published to.")
    return {release.address.rpartition("/")[2] for file in channels for release in releases_of(file)}


def _check(folder: str, deleted: Collection[str]) -> None:
    """In a bucket a publisher may have found a bundle there that was about to go."""
    for name in sorted(_named(folder).intersection(deleted)):
        raise ConfigError(f"{folder}: {name} was published while it was deleted", "Publish it once more.")
