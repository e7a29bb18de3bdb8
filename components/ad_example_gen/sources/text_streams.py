"""CSV files as streams of UTF-8, however they are compressed and encoded; memory is bounded by what is read."""

from __future__ import annotations

import codecs
import re
from typing import BinaryIO, Protocol

from adclick.components.ad_example_gen.sources.decompression import DecompressingStream, compression_of
from adclick.components.ad_example_gen.sources.text_encoding import MARK_UNDECODABLE, UTF_8, marked_encoding
from adclick.schema.errors import ConfigError, DataRefused
from adclick.storage import filesystem

#: So much of a file shows whether it is of two or four bytes a character: a delimiter or a line end has zeros then.
_MARK_BYTES = 512
_PLAIN_TEXT = re.compile(rb"[\t\r\n\x20-\x7e]+")
_READ_BYTES = 1 << 18


class Stream(Protocol):
    """Bytes of UTF-8; `damage` says why they ended early, empty if they did not."""

    @property
    def damage(self) -> str: ...

    def read(self, size: int) -> bytes: ...


class _FileStream:
    """The bytes of a file, decompressed where it is compressed."""

    def __init__(self, path: str, raw: BinaryIO) -> None:
        form = compression_of(path)
        self._path = path
        self._stream = raw if form is None else DecompressingStream(path, raw, form)

    @property
    def damage(self) -> str:
        return self._stream.damage if isinstance(self._stream, DecompressingStream) else ""

    def read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except OSError as error:
            raise _unreadable(self._path, error) from None


class _TranscodingStream:
    """Decodes a stream and encodes it anew as UTF-8; what cannot be decoded becomes a byte that is not UTF-8."""

    def __init__(self, stream: Stream, encoding: str, beginning: bytes) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)(MARK_UNDECODABLE)
        self._beginning = beginning
        self._pending = b""
        self._at_start = True
        self._ended = False

    @property
    def damage(self) -> str:
        return self._stream.damage

    def read(self, size: int) -> bytes:
        parts = [self._pending]
        length = len(self._pending)
        while length < size and not self._ended:
            raw = self._beginning or self._stream.read(min(max(size - length, 1), _READ_BYTES))
            self._beginning = b""
            self._ended = not raw
            text = self._decoder.decode(raw, final=self._ended)
            if self._at_start and text:
                text, self._at_start = text.removeprefix("\ufeff"), False
            parts.append(text.encode(UTF_8, MARK_UNDECODABLE))
            length += len(parts[-1])
        found = b"".join(parts)
        self._pending = found[size:]
        return found[:size]


def open_text(path: str, encoding: str) -> tuple[BinaryIO, Stream]:
    """Opens a text, decompressed where its name says so, as UTF-8; a byte order mark of UTF-8 stays.

    Args:
        path: The file.
        encoding: What it is encoded in, as `CsvSettings` names it.

    Returns:
        The file, for the caller to close and, where it is UTF-8 and not compressed, to seek in; and the stream.

    Raises:
        ConfigError: The account may not read it.
        DataRefused: It cannot be read, or is not in that encoding.
    """
    try:
        raw = filesystem.open_read(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        stream: Stream = _FileStream(path, raw)
        if encoding == UTF_8:
            return raw, stream
        beginning = stream.read(_MARK_BYTES)
        return raw, _TranscodingStream(stream, _codec(path, encoding, beginning), beginning)
    except BaseException:
        raw.close()
        raise


def check_utf_8(path: str, beginning: bytes) -> None:
    """Refuses a file that begins as UTF-16 or UTF-32 does; raises `DataRefused` that says how to declare it."""
    marked = marked_encoding(beginning)
    if marked is None and b"\0" in beginning:
        # ASCII has a zero byte beside it: before it or after it.
        marked = "utf-16-be" if beginning.startswith(b"\0") else "utf-16-le"
    if marked not in (None, UTF_8):
        raise DataRefused(
            f"{path}: is {str(marked).upper()}, not UTF-8", f"Set `encoding: {marked}` under `csv` in the config."
        )


def _codec(path: str, encoding: str, beginning: bytes) -> str:
    marked = marked_encoding(beginning)
    family = encoding[:6]
    if marked == family:
        return marked  # The mark says which byte comes first.
    if marked is not None and (marked == UTF_8 or family in ("utf-16", "utf-32")):
        raise DataRefused(
            f"{path}: its byte order mark says {marked.upper()}, but csv.encoding is {encoding}",
            "All files of a data root have one encoding: save the file in it, or correct csv.encoding in the config.",
        )
    if family in ("utf-16", "utf-32") and _PLAIN_TEXT.fullmatch(beginning):
        raise DataRefused(
            f"{path}: is not {encoding.upper()}, as csv.encoding says: it begins with plain text {beginning[:40]!r}",
            "Remove csv.encoding from the config if the files are UTF-8.",
        )
    return encoding


def _unreadable(path: str, error: OSError) -> ConfigError | DataRefused:
    if isinstance(error, FileNotFoundError):
        return DataRefused(f"{path}: has vanished or was replaced while it was read", "Run again on the whole drop.")
    if isinstance(error, PermissionError):
        return ConfigError(f"{path}: cannot be read: {error.strerror}", "Give the account that runs this the right to.")
    return DataRefused(f"{path}: cannot be read: {error}", "Make the file readable, or take it out.")
