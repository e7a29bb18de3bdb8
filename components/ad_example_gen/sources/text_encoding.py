"""Encodings of text: how files mark them, and what becomes of bytes that cannot be decoded."""

from __future__ import annotations

import codecs

UTF_8 = "utf-8"
#: Longer marks first: UTF-32's begins with UTF-16's.
_OTHER_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: A byte that UTF-8 never has.
_UNDECODABLE = b"\xff"
#: How errors of decoding are handled: what cannot be decoded becomes, in UTF-8, a byte that is not UTF-8.
MARK_UNDECODABLE = "adclick-undecodable"


def _mark_undecodable(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeDecodeError):
        return "\udcff", error.end
    if isinstance(error, UnicodeEncodeError):
        return _UNDECODABLE, error.end
    raise error


codecs.register_error(MARK_UNDECODABLE, _mark_undecodable)


def marked_encoding(beginning: bytes) -> str | None:
    """The encoding that a file's byte order mark names; None without one."""
    if beginning.startswith(codecs.BOM_UTF8):
        return UTF_8
    return next((encoding for mark, encoding in _OTHER_BOMS if beginning.startswith(mark)), None)
