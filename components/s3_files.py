"""Lets TFX read and write single files in S3, of which it opens all by `tfx.dsl.io.fileio`."""

from __future__ import annotations

import fnmatch
import io
import posixpath
from collections.abc import Callable, Iterable
from typing import Any

from tfx.dsl.io import filesystem as tfx_filesystem
from tfx.dsl.io import filesystem_registry

from adclick.storage import bucket, filesystem

_BEFORE_TENSORFLOW = 0


class _Writing(io.BytesIO):
    """Bytes that become an object, whole, once this is closed."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            super().close()
            bucket.write(self._address, content)


def _text(path: Any) -> str:
    return path.decode() if isinstance(path, bytes) else str(path)


class S3Files(tfx_filesystem.Filesystem):  # type: ignore[misc]
    """Objects in S3 as TFX takes files."""

    SUPPORTED_SCHEMES = [bucket.S3]

    @staticmethod
    def open(name: Any, mode: str = "r") -> Any:
        address = _text(name)
        if mode not in ("r", "rb", "w", "wb"):
            raise ValueError(f"{address}: objects are read, or written anew, not opened as {mode!r}")
        if mode.startswith("r"):
            try:
                found: Any = bucket.open_read(address)
            except FileNotFoundError as error:
                raise tfx_filesystem.NotFoundError from error
        else:
            found = _Writing(address)
        return found if mode.endswith("b") else io.TextIOWrapper(found, "utf-8")

    @staticmethod
    def copy(src: Any, dst: Any, overwrite: bool = False) -> None:
        source, target = _text(src), _text(dst)
        if not overwrite and filesystem.exists(target):
            raise OSError(f"{target}: is there already")
        try:
            filesystem.copy_file(source, target)
        except FileNotFoundError as error:
            raise tfx_filesystem.NotFoundError from error

    @staticmethod
    def exists(path: Any) -> bool:
        return filesystem.exists(_text(path))

    @staticmethod
    def glob(pattern: Any) -> list[Any]:
        text = _text(pattern)
        folder = posixpath.dirname(text.partition("*")[0].partition("?")[0].partition("[")[0] + "x")
        return [
            found.address
            for found in bucket.objects_below(folder)
            # A star stands for no slash.
            if found.address.count("/") == text.count("/") and fnmatch.fnmatchcase(found.address, text)
        ]

    @staticmethod
    def isdir(path: Any) -> bool:
        return filesystem.isdir(_text(path))

    @staticmethod
    def listdir(path: Any) -> list[Any]:
        files, folders = filesystem.list_entries(_text(path))
        return [*files, *folders]

    @staticmethod
    def makedirs(path: Any) -> None:
        """A bucket has no folders."""

    @staticmethod
    def mkdir(path: Any) -> None:
        """A bucket has no folders."""

    @staticmethod
    def remove(path: Any) -> None:
        bucket.delete(_text(path))

    @staticmethod
    def rename(src: Any, dst: Any, overwrite: bool = False) -> None:
        S3Files.copy(src, dst, overwrite)
        S3Files.remove(src)

    @staticmethod
    def rmtree(path: Any) -> None:
        bucket.delete(_text(path))

    @staticmethod
    def stat(path: Any) -> Any:
        try:
            return bucket.stat(_text(path))
        except FileNotFoundError as error:
            raise tfx_filesystem.NotFoundError from error

    @staticmethod
    def walk(
        top: Any, topdown: bool = True, onerror: Callable[..., None] | None = None
    ) -> Iterable[tuple[Any, list[Any], list[Any]]]:
        folder = _text(top)
        files, folders = filesystem.list_entries(folder)
        if topdown:
            yield folder, folders, files
        for name in folders:
            yield from S3Files.walk(f"{folder.rstrip('/')}/{name}", topdown, onerror)
        if not topdown:
            yield folder, folders, files


def open_s3_to_tfx() -> None:
    """Lets TFX's file functions take s3:// addresses, for the rest of this process."""
    filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY.register(S3Files, _BEFORE_TENSORFLOW)
