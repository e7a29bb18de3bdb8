"""Copies on the local disk of what lies in buckets, for programs that cannot read it there: TensorFlow above all.

It has no file system for S3, and takes the path of weights that it restores for a pattern, on gs:// too.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator

from adclick.storage import bucket
from adclick.storage.bucket import is_google_address, is_s3_address

#: What TensorFlow's file systems give a meaning in a path that they look for.
PATTERN_CHARACTERS = frozenset("*?[]\\")
_COPYING = threading.Lock()


def _needs_copy(folder: str) -> bool:
    return is_s3_address(folder) or (is_google_address(folder) and not PATTERN_CHARACTERS.isdisjoint(folder))


def local_copy(folder: str) -> str:
    """A path by which TensorFlow reads what is below a folder; of one in a bucket that it cannot, that of a copy.

    The copy lives as long as the process, and is made anew where the folder has changed.

    Raises:
        AdclickError: The bucket denies it, or does not answer.
    """
    if not _needs_copy(folder):
        return folder
    folder = folder.rstrip("/")
    state = "\n".join(f"{found.address} {found.generation}" for found in bucket.objects_below(folder))
    name = hashlib.sha256(f"{folder}\n{state}".encode()).hexdigest()[:16]
    # Its own name is kept: of a version it is the number.
    path = os.path.join(process_folder("copies"), name, folder.rpartition("/")[2])
    with _COPYING:
        if not os.path.isdir(path):
            partial = f"{path}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            bucket.download_folder(folder, partial)
            os.replace(partial, path)
    return path


@contextlib.contextmanager
def temporary_copy(folder: str) -> Iterator[str]:
    """As `local_copy`, for the length of a `with` block."""
    if not _needs_copy(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="adclick-copy-") as above:
        path = os.path.join(above, folder.rstrip("/").rpartition("/")[2])
        bucket.download_folder(folder, path)
        yield path


def process_folder(what: str) -> str:
    """A temporary folder of this process, the same for the same purpose, which goes when the process ends."""
    return _process_folder(what, os.getpid())


@functools.lru_cache(maxsize=8)
def _process_folder(what: str, process: int) -> str:
    # By process: a child does not write into its parent's.
    folder = tempfile.mkdtemp(prefix=f"adclick-{what}-{process}-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Staging:
    """A local folder that stands for S3 while a step works: what it reads is fetched, what it writes is put there.

    Below it a path is an object's address without its scheme.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="adclick-staging-")
        self._outputs: list[str] = []

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *raised: object) -> None:
        self._folder.cleanup()

    def _path(self, address: str) -> str:
        return os.path.join(self._folder.name, address.partition("://")[2])

    def input(self, address: str) -> str:
        """Where to read what lies in a folder: in S3, from a copy."""
        if not is_s3_address(address):
            return address
        path = self._path(address)
        if not os.path.isdir(path):
            bucket.download_folder(address, path)
        return path

    def output(self, address: str) -> str:
        """Where to write what shall lie in a folder; in S3 it is once `upload` is called."""
        if not is_s3_address(address):
            return address
        path = self._path(address)
        os.makedirs(path, exist_ok=True)
        self._outputs.append(address)
        return path

    def upload(self) -> None:
        """Puts what was written into S3, where nothing is left of what an earlier attempt put there.

        Raises:
            AdclickError: The bucket denies it, or does not answer.
        """
        for address in self._outputs:
            bucket.delete(address)
            bucket.upload_folder(self._path(address), address)

    def addressed(self, text: str) -> str:
        """A text in which local paths are addresses again."""
        return text.replace(f"{self._folder.name}/", bucket.S3)
