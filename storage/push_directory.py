"""The layout of a push directory: a folder per version, named by its number, whole once it holds `saved_model.pb`."""

from __future__ import annotations

from pathlib import Path

from adclick.schema.errors import ConfigError
from adclick.storage.bucket import is_object, list_folder

MODEL_FILE = "saved_model.pb"


def whole_versions(base: str) -> list[int]:
    """Numbers of the whole versions below `base`, ascending; none if the folder is missing.

    Raises:
        ConfigError: The folder or a version cannot be read, so that nobody knows which is the newest.
    """
    if "://" not in base:
        folder = Path(base)
        path = folder
        try:
            numbers = []
            for name in [entry.name for entry in folder.iterdir()] if folder.is_dir() else []:
                path = folder / name
                if name.isdecimal() and (path / MODEL_FILE).exists():
                    numbers.append(int(name))
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read: {error.strerror}", "Let this account read it, or move the version away."
            ) from None
        return sorted(numbers)
    numbers = [int(name) for name in list_folder(base)[1] if name.isdecimal()]
    return sorted(number for number in numbers if is_object(f"{base.rstrip('/')}/{number}/{MODEL_FILE}"))
