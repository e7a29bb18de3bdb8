"""Compressed files as streams of what they hold: a form of compression is one line of `COMPRESSIONS`."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from adclick.schema.errors import DataRefused
from adclick.storage import filesystem

#: No log expands further; what does so would keep a run busy for as long as it likes.
_MOST_EXPANSION = 1_000
_FREELY_EXPANDED = 256 << 20
_ENCRYPTED = 0x1
_READ_BYTES = 1 << 16
#: So much of a file shows by how much it expands.
_PROBED_BYTES = 1 << 20


class DecompressingStream:
    """Decompresses; where the file is damaged it ends, with all that could be read before.

    Attributes:
        damage: Why the bytes ended early; empty if they did not.
    """

    def __init__(self, path: str, raw: BinaryIO, form: Compression) -> None:
        self._path = path
        size = raw.seek(0, io.SEEK_END)
        raw.seek(0)
        self._limit = max(_FREELY_EXPANDED, _MOST_EXPANSION * size)
        self._read_bytes = 0
        self._stream: Any = None
        self.damage = ""
        try:
            self._stream = form.open(path, raw)
        except (EOFError, zipfile.BadZipFile) as error:
            self.damage = str(error) or "it ends too early"

    def read(self, size: int) -> bytes:
        """Up to `size` next bytes, fewer only at the end.

        Raises:
            DataRefused: So few bytes do not expand to so many.
            OSError: The file itself cannot be read.
        """
        parts = io.BytesIO()
        while not self.damage and parts.tell() < size:
            try:
                part = self._stream.read(min(size - parts.tell(), _READ_BYTES))
            except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile) as error:
                self.damage = str(error) or "it ends too early"
                break
            except OSError as error:
                if error.errno is not None:
                    raise
                # bz2 and Arrow say so that what they decompress is damaged.
                self.damage = str(error)
                break
            if not part:
                break
            parts.write(part)
        self._read_bytes += parts.tell()
        if self._read_bytes > self._limit:
            raise DataRefused(
                f"{self._path}: expands to more than {_MOST_EXPANSION:,} times its size, as no log does",
                "If it is no attack, deliver it decompressed or in several files.",
            )
        return parts.getvalue()


def _open_gzip(path: str, raw: BinaryIO) -> Any:
    stream = gzip.GzipFile(fileobj=raw)
    # `read1` gives what there is before the damage; `read` would lose it.
    return _Read1(stream.read1)


def _open_bzip2(path: str, raw: BinaryIO) -> Any:
    return _Read1(bz2.BZ2File(raw).read1)


@dataclass(frozen=True)
class _Read1:
    read: Callable[[int], bytes]


def _open_zstandard(path: str, raw: BinaryIO) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(raw, "zstd")


def _open_zip(path: str, raw: BinaryIO) -> Any:
    archive = zipfile.ZipFile(raw)
    member = _only_member(path, archive)
    if member.flag_bits & _ENCRYPTED:
        raise DataRefused(f"{path}: is encrypted", "Deliver it without a password.")
    try:
        return _Read1(cast(io.BufferedIOBase, archive.open(member)).read1)
    except NotImplementedError as error:
        raise DataRefused(f"{path}: {error}", "Compress it anew with deflate, as zip does by itself.") from None


def _only_member(path: str, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not any(part.startswith((".", "_")) for part in member.filename.split("/"))
    ]
    if len(members) == 1:
        return members[0]
    if not members:
        raise DataRefused(f"{path}: the archive holds no file", "Deliver it again.")
    shown = ", ".join(repr(member.filename) for member in members[:3])
    raise DataRefused(
        f"{path}: the archive holds {len(members):,} files, {shown}{' and more' if len(members) > 3 else ''}",
        "Deliver one file in each archive, or unpack it into the folder.",
    )


def _gzip_size(path: str) -> int | None:
    """A gzip file ends with the length of its last member, modulo 2^32: good enough for an estimate."""
    with filesystem.open_read(path) as raw:
        size = raw.seek(0, io.SEEK_END)
        if not 18 <= size < 1 << 30:
            return None
        raw.seek(size - 4)
        return max(size, int.from_bytes(raw.read(4), "little"))


def _zip_size(path: str) -> int | None:
    try:
        with filesystem.open_read(path) as raw, zipfile.ZipFile(raw) as archive:
            return _only_member(path, archive).file_size
    except (zipfile.BadZipFile, EOFError):
        return None


def _unknown_size(path: str) -> int | None:
    return None


@dataclass(frozen=True)
class Compression:
    """A form of compression.

    Attributes:
        suffix: How names of such files end.
        open: From an address and its open file, an object whose `read` gives decompressed bytes.
        plain_size: The decompressed size in bytes that a file says of itself; None if it says none.
    """

    suffix: str
    open: Callable[[str, BinaryIO], Any]
    plain_size: Callable[[str], int | None]


COMPRESSIONS = (
    Compression(".gz", _open_gzip, _gzip_size),
    Compression(".bz2", _open_bzip2, _unknown_size),
    Compression(".zst", _open_zstandard, _unknown_size),
    Compression(".zip", _open_zip, _zip_size),
)


def compression_of(path: str) -> Compression | None:
    """How a file of this name is compressed; None if it is not."""
    return next((form for form in COMPRESSIONS if path.lower().endswith(form.suffix)), None)


def plain_size(path: str) -> int:
    """About how many bytes a file holds, decompressed."""
    size = filesystem.size(path)
    form = compression_of(path)
    if form is None:
        return size
    said = form.plain_size(path)
    if said is not None:
        return said
    with filesystem.open_read(path) as raw:
        # Arrow's stream closes the file when it goes.
        stream = DecompressingStream(path, raw, form)
        held = len(stream.read(_PROBED_BYTES))
        return max(size, size * held // max(raw.tell(), 1))
