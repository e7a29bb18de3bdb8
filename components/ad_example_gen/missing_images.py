"""Why an image is not where its address says: the likely cause, by the form of the address and what stands near it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import Final

from adclick.storage import filesystem
from adclick.storage.bucket import is_bucket_address

WEB_ADDRESS: Final = "web_address"
WINDOWS_PATH: Final = "windows_path"
BACKSLASH: Final = "backslash"
PERCENT_ENCODING: Final = "percent_encoding"
BLANKS: Final = "blanks"
OTHER_SYSTEM: Final = "other_system"
OTHER_CASE: Final = "other_case"
OTHER_EXTENSION: Final = "other_extension"
NO_FOLDER: Final = "no_folder"
NO_FILE: Final = "no_file"

#: What each cause means, for people.
CAUSES: Final = {
    WEB_ADDRESS: "the address is one of the web (http://…): images are read from folders and buckets (gs://, s3://)",
    WINDOWS_PATH: "the path is one of Windows (C:\\…): write it relative to the CSV's folder, with /",
    BACKSLASH: "folders are parted by \\ in the address: write /",
    PERCENT_ENCODING: "characters of the address are percent-encoded (%20): write them as the file's name has them",
    BLANKS: "the address begins or ends with a blank",
    OTHER_SYSTEM: "the path is absolute and its folder is not on this machine: write it relative to the CSV's folder",
    OTHER_CASE: "the file's name differs in upper and lower case",
    OTHER_EXTENSION: "a file of this name with another extension is there",
    NO_FOLDER: "there is no such folder",
    NO_FILE: "there is no such file",
}

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
#: Folders looked into at most; the causes that only a folder tells are not told beyond.
_MOST_FOLDERS = 200


class MissingImages:
    """Finds likely causes for the missing images of one folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._names: dict[str, list[str] | None] = {}

    def cause(self, reference: str) -> str:
        """The likely cause, a key of `CAUSES`, why there is no file at an address relative to the folder."""
        by_form: list[tuple[str, Callable[[], bool]]] = [
            (BLANKS, lambda: reference != reference.strip()),
            (WEB_ADDRESS, lambda: bool(_SCHEME.match(reference)) and not is_bucket_address(reference)),
            (WINDOWS_PATH, lambda: bool(_WINDOWS.match(reference))),
            (BACKSLASH, lambda: "\\" in reference),
            (PERCENT_ENCODING, lambda: bool(_PERCENT.search(reference))),
            (OTHER_SYSTEM, lambda: _is_of_other_system(reference)),
        ]
        for cause, applies in by_form:
            if applies():
                return cause
        address = filesystem.join(self._folder, reference)
        parent, _, name = address.rpartition("/")
        names = self._names_in(parent)
        if names is None:
            return NO_FOLDER
        if name.lower() in (other.lower() for other in names):
            return OTHER_CASE
        stem = posixpath.splitext(name)[0].lower()
        if stem and stem in (posixpath.splitext(other)[0].lower() for other in names):
            return OTHER_EXTENSION
        return NO_FILE

    def _names_in(self, folder: str) -> list[str] | None:
        """Names of the files in a folder; None if there is no such folder."""
        if folder not in self._names:
            if len(self._names) >= _MOST_FOLDERS:
                return []
            self._names[folder] = _names_in(folder)
        return self._names[folder]


def _names_in(folder: str) -> list[str] | None:
    if not is_bucket_address(folder) and not filesystem.isdir(folder):
        return None
    try:
        return [file.rpartition("/")[2] for file in filesystem.list_files(folder, ["*"])]
    except OSError:  # Its names are not for us; the cause stays untold.
        return []


def _is_of_other_system(reference: str) -> bool:
    """Whether a path is absolute and not even its first folder is here."""
    if not reference.startswith("/"):
        return False
    return not filesystem.isdir("/" + reference.lstrip("/").partition("/")[0])
