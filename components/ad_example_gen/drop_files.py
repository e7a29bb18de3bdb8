"""The files of a drop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from adclick.components.ad_example_gen.drop_names import is_litter, is_month, listed, sort_entries
from adclick.components.ad_example_gen.sources import ENDINGS, FORMS, is_read, source_of
from adclick.components.ad_example_gen.sources.source import DataFile
from adclick.schema.errors import ConfigError, DataRefused
from adclick.storage import filesystem

#: So many entries of a folder that is no day's are looked at for files to read.
_ENTRIES_TO_LOOK_AT = 200


def drop_fingerprint(drop_uri: str) -> str:
    """A text that changes when any file of a drop does: by relative path, size and modification time.

    Raises:
        ConfigError: A folder of the drop cannot be listed.
    """
    with readable(drop_uri):
        return filesystem.fingerprint(drop_uri)


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Raises `ConfigError` where the system does not let a folder or file be read."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{error.filename or path}: cannot be read: {error.strerror or error}",
            "Give the account that runs this the right to list the folder and to read its files.",
        ) from None


@dataclass(frozen=True)
class DropListing:
    """What lies in a drop.

    Attributes:
        files: Those that are read: the folder's own, then those of its days, each sorted by name.
        unread: Other files than images, and folders that hold files of a source and are no day's, relative to the drop.
        litter: Files and folders that systems left behind, relative to the drop.
    """

    files: tuple[DataFile, ...]
    unread: tuple[str, ...] = ()
    litter: tuple[str, ...] = ()

    @property
    def paths(self) -> list[str]:
        """The addresses of the files that are read."""
        return [file.path for file in self.files]


def list_drop(drop_uri: str) -> DropListing:
    """Lists a drop, a folder or one file.

    Raises:
        ConfigError: It cannot be listed.
        DataRefused: There is no file to read, or there are some of two forms.
    """
    if not filesystem.exists(drop_uri):
        raise DataRefused(f"{drop_uri}: no such file or folder", "Correct data.root in the config, or give --data.")
    if not filesystem.isdir(drop_uri):
        return DropListing((DataFile(drop_uri),))
    listing = list_folder(drop_uri)
    if not listing.files:
        raise DataRefused(f"{drop_uri}: holds no {FORMS} file", no_files_remedy(listing.unread))
    return listing


def list_folder(drop_uri: str) -> DropListing:
    """As `list_drop`, of a folder that may hold no file to read."""
    name = drop_uri.rstrip("/").rpartition("/")[2]
    with readable(drop_uri):
        found = sort_entries(*filesystem.list_entries(drop_uri), month=name if is_month(name) else None)
        files = [DataFile(filesystem.join(drop_uri, file)) for file in found.read]
        unread, litter = list(found.unread), list(found.litter)
        for day in found.days:
            folder = filesystem.join(drop_uri, day)
            within = sort_entries(*filesystem.list_entries(folder), month=None)
            files += [DataFile(filesystem.join(folder, file), day) for file in within.read]
            litter += [f"{day}/{entry}" for entry in within.litter]
            unread += [f"{day}/{entry}" for entry in within.unread]
            unread += [f"{day}/{each}/" for each in within.folders if _holds_files(filesystem.join(folder, each))]
        unread += [f"{each}/" for each in found.folders if _holds_files(filesystem.join(drop_uri, each))]
    refuse_mixed_forms(drop_uri, [file.path for file in files])
    return DropListing(tuple(files), tuple(unread), tuple(litter))


def refuse_mixed_forms(folder: str, paths: Sequence[str]) -> None:
    """Raises `DataRefused` where the files of one drop are of several forms: they may well hold the same rows."""
    first_of = {source_of(path).name: path for path in reversed(paths)}
    if len(first_of) > 1:
        shown = " and ".join(f"{form} ({path.rpartition('/')[2]})" for form, path in sorted(first_of.items()))
        raise DataRefused(
            f"{folder}: holds {shown} side by side, which may be the same rows twice",
            "Keep one form in a month's folder; months may differ. Move the other files out.",
        )


def no_files_remedy(unread: tuple[str, ...]) -> str:
    """What to do about a folder without files to read."""
    kinds = f"Files are looked for directly in the folder, with names that end in {ENDINGS}"
    return f"{kinds}; it holds {listed(unread)}." if unread else f"{kinds}."


def _holds_files(folder: str) -> bool:
    return any(is_read(name) and not is_litter(name) for name in filesystem.first_names(folder, _ENTRIES_TO_LOOK_AT))
