"""The layout of recognisers: beside the click model's push directory a folder per version, named by its number."""

from __future__ import annotations

import posixpath

from adclick.storage import filesystem

#: What a version is by, and without which it is not whole.
RECOGNISER_FILE = "recogniser.tflite"
#: What is known of it: thresholds, what was measured of it.
FACTS_FILE = "recognition.json"
_FOLDER = "recognition"


def recogniser_folder(push_directory: str) -> str:
    """Where the recognisers go that belong to a click model's push directory."""
    return filesystem.join(posixpath.dirname(push_directory.rstrip("/")), _FOLDER)


def recogniser_versions(folder: str) -> list[int]:
    """The numbers of the whole versions in a folder, ascending; none if it is missing."""
    if not filesystem.isdir(folder):
        return []
    numbers = (int(name) for name in filesystem.list_folders(folder) if name.isdecimal())
    return sorted(
        number for number in numbers if filesystem.isfile(filesystem.join(folder, str(number), RECOGNISER_FILE))
    )
