"""The layout of a push directory: a folder per version, named by its number, whole once it holds `saved_model.pb`."""

from __future__ import annotations

from pathlib import Path

from models.bucket import is_bucket_address, is_object, list_folder

MODEL_FILE = "saved_model.pb"


def whole_versions(base: str) -> list[int]:
    """Numbers of the whole versions below `base`, ascending; none if the folder is missing."""
    if "://" not in base:
        folder = Path(base)
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        return sorted(int(name) for name in names if name.isdecimal() and (folder / name / MODEL_FILE).exists())
    if is_bucket_address(base):
        numbers = [int(name) for name in list_folder(base)[1] if name.isdecimal()]
        return sorted(number for number in numbers if is_object(f"{base.rstrip('/')}/{number}/{MODEL_FILE}"))
    # Only other addresses need TensorFlow's file systems, whose import takes seconds.
    import tensorflow as tf

    if not tf.io.gfile.isdir(base):
        return []
    names = [name.rstrip("/") for name in tf.io.gfile.listdir(base)]
    return sorted(int(name) for name in names if name.isdecimal() and tf.io.gfile.exists(f"{base}/{name}/{MODEL_FILE}"))
