"""The version folders of a model's base path, on a local disk or in a bucket."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")

# A folder's files with their sizes and times.
Fingerprint = frozenset[tuple[str, int, int]]


@dataclass(frozen=True)
class VersionFolder:
    """A numbered folder of a model's base path.

    Attributes:
        path: The folder.
        whole: Whether it holds the SavedModel's own file, which is copied last.
    """

    path: str
    whole: bool


def base_path_exists(base_path: str) -> bool:
    """Whether the folder is there."""
    return bool(tf.io.gfile.isdir(base_path)) if "://" in base_path else os.path.isdir(base_path)


def list_versions(base_path: str) -> dict[int, VersionFolder]:
    """Lists the version folders of a base path; folders that are not named by a number are ignored.

    Raises:
        OSError: The base path cannot be read.
    """
    if "://" in base_path:
        return _list_remote_versions(base_path)
    return {
        int(path.name): VersionFolder(str(path), whole=any((path / name).is_file() for name in MODEL_FILES))
        for path in sorted(Path(base_path).iterdir())
        if _is_number(path.name) and path.is_dir()
    }


def fingerprint(folder: str) -> Fingerprint:
    """The files below a folder with their sizes and times: they change when the folder's content does."""
    if "://" in folder:
        return _remote_fingerprint(folder)
    files = set()
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            files.add((str(path), status.st_size, status.st_mtime_ns))
    return frozenset(files)


def _list_remote_versions(base_path: str) -> dict[int, VersionFolder]:
    try:
        names = sorted({name.rstrip("/") for name in tf.io.gfile.listdir(base_path)})
        folders = {int(name): posixpath.join(base_path, name) for name in names if _is_number(name)}
        return {
            version: VersionFolder(
                folder, whole=any(tf.io.gfile.exists(posixpath.join(folder, name)) for name in MODEL_FILES)
            )
            for version, folder in folders.items()
        }
    except tf.errors.OpError as error:
        raise OSError(str(error)) from error


def _remote_fingerprint(folder: str) -> Fingerprint:
    files = set()
    for parent, _, names in tf.io.gfile.walk(folder):
        for name in names:
            path = posixpath.join(parent, name)
            status = tf.io.gfile.stat(path)
            files.add((path, int(status.length), int(status.mtime_nsec)))
    return frozenset(files)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()
