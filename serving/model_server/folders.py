"""The version folders of a model's base path, on a local disk or in a bucket."""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from adclick.schema.errors import AdclickError
from adclick.storage import bucket
from adclick.storage.bucket import is_s3_address

MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")

#: Of a version number; Python converts no integers of thousands of digits.
_MOST_DIGITS = 19

# A folder's files with their sizes and times.
Fingerprint = frozenset[tuple[str, int, int]]


@dataclass(frozen=True)
class VersionFolder:
    """A numbered folder of a model's base path.

    Attributes:
        path: The folder.
        whole: Whether it holds the SavedModel's own file, which is copied last.
        fault: Why that cannot be told; empty if it can.
    """

    path: str
    whole: bool
    fault: str = ""


def base_path_exists(base_path: str) -> bool:
    """Whether the folder is there."""
    if is_s3_address(base_path):
        with _read_errors():
            return bucket.is_folder(base_path)
    return bool(tf.io.gfile.isdir(base_path)) if "://" in base_path else os.path.isdir(base_path)


def list_versions(base_path: str, model_files: tuple[str, ...] = MODEL_FILES) -> dict[int, VersionFolder]:
    """Lists the version folders of a base path; folders that are not named by a number are ignored.

    A folder that cannot be looked into is listed with its fault, and does not keep others from being listed.

    Raises:
        OSError: The base path cannot be read.
    """
    if is_s3_address(base_path):
        return _list_s3_versions(base_path, model_files)
    if "://" in base_path:
        return _list_remote_versions(base_path, model_files)
    folders = {}
    for path in sorted(Path(base_path).iterdir()):
        if _is_number(path.name):
            try:
                if path.is_symlink() and not path.exists():
                    folders[int(path.name)] = VersionFolder(str(path), False, "it is a link to nothing")
                elif path.is_dir():
                    whole = any((path / name).is_file() for name in model_files)
                    folders[int(path.name)] = VersionFolder(str(path), whole)
            except OSError as error:
                folders[int(path.name)] = VersionFolder(str(path), False, str(error))
    return folders


def fingerprint(folder: str) -> Fingerprint:
    """The files below a folder with their sizes and times: they change when the folder's content or access does.

    Raises:
        OSError: The folder cannot be read.
    """
    if is_s3_address(folder):
        with _read_errors():
            # An ETag is another for another content; it stands for the time.
            return frozenset(
                (found.address, found.size, hash(found.generation)) for found in bucket.objects_below(folder)
            )
    if "://" in folder:
        return _remote_fingerprint(folder)
    files = set()
    for parent, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            path = Path(parent, name)
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            except OSError as error:
                # The model may not need it.
                files.add((str(path), -1, error.errno or 0))
                continue
            # The time of the last change of its inode, too: it is all that a change of access leaves.
            files.add((str(path), status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)))
    return frozenset(files)


def _raise(error: OSError) -> None:
    raise error


@contextlib.contextmanager
def _read_errors() -> Iterator[None]:
    try:
        yield
    except AdclickError as error:
        raise OSError(str(error)) from error


def _list_s3_versions(base_path: str, model_files: tuple[str, ...]) -> dict[int, VersionFolder]:
    folders = {}
    with _read_errors():
        for name in filter(_is_number, bucket.list_folder(base_path)[1]):
            folder = posixpath.join(base_path, name)
            whole = any(bucket.is_object(posixpath.join(folder, file)) for file in model_files)
            folders[int(name)] = VersionFolder(folder, whole)
    return folders


def _list_remote_versions(base_path: str, model_files: tuple[str, ...]) -> dict[int, VersionFolder]:
    try:
        names = sorted({name.rstrip("/") for name in tf.io.gfile.listdir(base_path)})
    except tf.errors.OpError as error:
        raise OSError(str(error)) from error
    folders = {}
    for name in filter(_is_number, names):
        folder = posixpath.join(base_path, name)
        try:
            whole = any(tf.io.gfile.exists(posixpath.join(folder, file)) for file in model_files)
            folders[int(name)] = VersionFolder(folder, whole)
        except tf.errors.OpError as error:
            folders[int(name)] = VersionFolder(folder, False, str(error.message))
    return folders


def _remote_fingerprint(folder: str) -> Fingerprint:
    files = set()
    try:
        for parent, _, names in tf.io.gfile.walk(folder):
            for name in names:
                path = posixpath.join(parent, name)
                status = tf.io.gfile.stat(path)
                files.add((path, int(status.length), int(status.mtime_nsec)))
    except tf.errors.OpError as error:
        raise OSError(str(error.message)) from error
    return frozenset(files)


def _is_number(name: str) -> bool:
    """Whether the name is a version number: of at most 64 bits."""
    return name.isascii() and name.isdigit() and len(name.lstrip("0")) <= _MOST_DIGITS and int(name) < 2**63
