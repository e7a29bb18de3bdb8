"""Finds what CSV files are encoded in: by byte order mark, as UTF-8 where they are, else by charset-normalizer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from charset_normalizer import from_bytes

from adclick.components.ad_example_gen.sources.text_encoding import UTF_8, marked_encoding
from adclick.schema.errors import ConfigError

#: What logs are written in, besides Unicode; of several that fit alike the first is taken.
_CANDIDATES = (
    "cp1252",
    "cp932",
    "gb18030",
    "big5",
    "euc_kr",
    "euc_jp",
    "cp1251",
    "koi8_r",
    "cp1250",
    "cp1254",
    "cp1253",
    "cp1255",
    "cp1256",
    "cp1257",
    "cp874",
)
_DETECTED_BYTES = 1 << 16
#: None of these is part of a longer character in any of the candidates.
_SEPARATORS = re.compile(rb'[,;\t\r\n"]')
#: So many lines that are not UTF-8 are no encoding but damage, where at least as many are, or so few of all.
_DAMAGED_LINES = 4
_DAMAGED_SHARE = 0.005
#: Two readings so near each other are alike.
_LIKE_DISORDER = 0.01
_LIKE_COHERENCE = 0.05


@dataclass(frozen=True)
class Encoding:
    """What files are encoded in.

    Attributes:
        name: As `csv.encoding` takes it.
        warning: What a person should look at; None where the bytes leave no doubt.
    """

    name: str
    warning: str | None = None


def detect_encoding(beginnings: Mapping[Path, bytes]) -> Encoding:
    """Finds the encoding that all files have.

    Args:
        beginnings: The first bytes of each file, decompressed.

    Raises:
        ConfigError: The files differ in it, or no encoding fits.
    """
    wide = {file: _wide_encoding(beginning) for file, beginning in beginnings.items() if beginning}
    found = sorted(set(wide.values()), key=str)
    if len(found) > 1:
        examples = [next(file for file, name in wide.items() if name == each) for each in found]
        raise ConfigError(
            "; ".join(f"{file}: is {(name or UTF_8).upper()}" for file, name in zip(examples, found, strict=True)),
            "All files of a data root have one encoding: convert some of them, for example with iconv.",
        )
    if found and found[0] is not None:
        return Encoding(found[0])
    if any(marked_encoding(beginning) == UTF_8 for beginning in beginnings.values()):
        return Encoding(UTF_8)
    return _narrow_encoding(beginnings)


def _wide_encoding(beginning: bytes) -> str | None:
    """UTF-16 or UTF-32; None for what has a byte for each ASCII character."""
    marked = marked_encoding(beginning)
    if marked is not None:
        return None if marked == UTF_8 else marked
    even, odd = beginning[::2].count(0), beginning[1::2].count(0)
    if even + odd < 0.1 * len(beginning):
        return None
    return "utf-16-be" if even > odd else "utf-16-le"


def _narrow_encoding(beginnings: Mapping[Path, bytes]) -> Encoding:
    damaged: list[bytes] = []
    lines = sound = 0
    for beginning in beginnings.values():
        # The last line may be cut within a character.
        for line in beginning[: beginning.rfind(b"\n") + 1 or len(beginning)].split(b"\n"):
            lines += 1
            if not line.isascii():
                try:
                    line.decode()
                    sound += 1
                except UnicodeDecodeError:
                    damaged.append(line)
    if not damaged or sound >= len(damaged):
        return Encoding(UTF_8)
    if len(damaged) <= _DAMAGED_LINES and len(damaged) <= _DAMAGED_SHARE * lines:
        return Encoding(UTF_8)
    # Each foreign word once: the digits and codes around them say nothing.
    words = dict.fromkeys(word for line in damaged for word in _SEPARATORS.split(line) if not word.isascii())
    matches = list(from_bytes(b"\n".join(words)[:_DETECTED_BYTES], cp_isolation=list(_CANDIDATES)))
    if not matches:
        file = next(iter(beginnings))
        raise ConfigError(
            f"{file}: is neither UTF-8 nor any other text: {damaged[0][:80]!r}", "Export the data as UTF-8 CSV."
        )
    best = min(matches, key=lambda match: (match.chaos, -match.coherence))
    alike = {
        name
        for match in matches
        if match.chaos <= best.chaos + _LIKE_DISORDER and match.coherence >= best.coherence - _LIKE_COHERENCE
        for name in (match.encoding, *match.could_be_from_charset)
    }
    name = next((candidate for candidate in _CANDIDATES if candidate in alike), best.encoding)
    example = next(iter(words)).decode(name, "replace").strip()
    others = ", ".join(candidate for candidate in _CANDIDATES if candidate in alike and candidate != name)
    return Encoding(
        name,
        f"the files are not UTF-8; by their bytes they are {name}, in which one reads {example[:60]!r}. "
        "If that is wrong, correct csv.encoding" + (f" (as likely: {others})." if others else "."),
    )
