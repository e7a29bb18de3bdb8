"""What the names of files and folders in a data root mean; nothing here opens a file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from adclick.components.ad_example_gen.sources import FORMS, is_read
from adclick.schema.errors import ConfigError

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".svg", ".avif", ".heic")
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
_SEPARATOR = r"[\s_./\-\u2010-\u2015]*"
_YEAR_FIRST = re.compile(rf"(?:[a-z]+=)?((?:19|20)\d\d){_SEPARATOR}m?(\d\d?|[a-z]{{3,9}})", re.IGNORECASE)
_YEAR_LAST = re.compile(rf"(\d\d?|[a-z]{{3,9}}){_SEPARATOR}((?:19|20)\d\d)", re.IGNORECASE)
_DATE = re.compile(rf"(?:[a-z]+=)?((?:19|20)\d\d){_SEPARATOR}(\d\d){_SEPARATOR}(\d\d)", re.IGNORECASE)
_DAY = re.compile(r"(?:[a-z]+[=_ -]?)?(0?[1-9]|[12]\d|3[01])", re.IGNORECASE)
_DAY_WORDS = ("d", "day", "date", "dt", "tag", "jour", "dia")
_MONTH_NAMES = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)


def is_litter(name: str) -> bool:
    """Whether a file or folder is what systems leave behind (`.DS_Store`, `._x.csv`, `_SUCCESS`, `__MACOSX`)."""
    return name.startswith((".", "_"))


def is_month(name: str) -> bool:
    """Whether a folder of this name holds a month."""
    return bool(_MONTH.fullmatch(name)) and name.isascii()


def intended_name(name: str) -> str | None:
    """The name that a folder should have which is nearly that of a month, or of a day outside its month; else None."""
    if is_month(name):
        return None
    stripped = name.strip(" \t_.-")
    if (date := _DATE.fullmatch(stripped)) and 1 <= int(date[3]) <= 31:
        month = _month_name(date[1], date[2])
        return month and f"{month}/{stripped}"
    if found := _YEAR_FIRST.fullmatch(stripped):
        return _month_name(found[1], found[2])
    if found := _YEAR_LAST.fullmatch(stripped):
        return _month_name(found[2], found[1])
    return None


def _month_name(year: str, month: str) -> str | None:
    if month.isdecimal():
        number = int(month)
    else:
        number = next((n for n, word in enumerate(_MONTH_NAMES, 1) if word.startswith(month.lower())), 0)
    return f"{int(year):04d}-{number:02d}" if 1 <= number <= 12 else None


def is_day(name: str, month: str) -> bool:
    """Whether a folder within a month's holds one of its days: `15`, `day15`, `2026-10-15`, `dt=20261015`."""
    if date := _DATE.fullmatch(name):
        return _month_name(date[1], date[2]) == month and 1 <= int(date[3]) <= 31
    found = _DAY.fullmatch(name)
    word = name[: found.start(1)].rstrip("=_ -").lower() if found else ""
    return found is not None and (not word or word in _DAY_WORDS)


@dataclass(frozen=True)
class Sorting:
    """The entries of a drop's folder by what is done with them, each sorted.

    Attributes:
        read: Files that are read.
        days: Folders of days, whose files are read too.
        folders: Other folders.
        unread: Files that are neither of a source nor images.
        litter: What systems left behind.
    """

    read: tuple[str, ...]
    days: tuple[str, ...]
    folders: tuple[str, ...]
    unread: tuple[str, ...]
    litter: tuple[str, ...]


def sort_entries(files: Iterable[str], folders: Iterable[str], month: str | None) -> Sorting:
    """Sorts the names in a drop's folder by what they mean; `month` is its name where it is a month's."""
    files, folders = sorted(files), sorted(folders)
    clean = [name for name in files if not is_litter(name)]
    days = [name for name in folders if month is not None and not is_litter(name) and is_day(name, month)]
    return Sorting(
        read=tuple(name for name in clean if is_read(name)),
        days=tuple(days),
        folders=tuple(name for name in folders if name not in days and not is_litter(name)),
        unread=tuple(name for name in clean if not is_read(name) and not name.lower().endswith(_IMAGE_SUFFIXES)),
        litter=tuple(name for name in (*files, *folders) if is_litter(name)),
    )


def refuse_misnamed(root: str, folders: Iterable[str]) -> None:
    """Raises `ConfigError` where a folder is named nearly as a month is: its rows would be passed over."""
    intended = [(name, found) for name in sorted(folders) if (found := intended_name(name)) is not None]
    if intended:
        raise ConfigError(
            f"{root}: " + "; ".join(f"the folder {name!r} should be named {found!r}" for name, found in intended),
            "Months are folders YYYY-MM, days are folders within their month. Rename it, or take it out of the data "
            "root if it is not to be read.",
        )


def listed(names: tuple[str, ...] | list[str], count: int = 8) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:count])
    return shown if len(names) <= count else f"{shown} and {len(names) - count:,} more"


@dataclass(frozen=True)
class PassedOver:
    """What of a data root a run does not read.

    Attributes:
        unread: What is neither a month nor, within the run's months, a file of a source, a day or an image; relative to
            the root, folders with a slash at the end.
        litter: How many files and folders systems left behind, such as `.DS_Store` and `__MACOSX`.
    """

    unread: list[str] = field(default_factory=list)
    litter: int = 0

    def describe(self) -> list[str]:
        """For people, a line each; none where everything is read."""
        lines = []
        if self.unread:
            lines.append(f"Not read in the data root, as neither a month nor {FORMS}: {listed(self.unread)}.")
        if self.litter:
            what = "file or folder" if self.litter == 1 else "files and folders"
            lines.append(f"Passed over for names that begin with . or _: {self.litter:,} {what}.")
        return lines
