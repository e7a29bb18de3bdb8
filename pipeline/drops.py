"""Finds the drops of a data root: a folder per month, one folder of CSV files, or one CSV file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from components import filesystem
from components.ad_example_gen.drop_files import CSV_PATTERNS, drop_fingerprint
from schema.errors import ConfigError

_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


@dataclass(frozen=True)
class Drop:
    """One month's delivery.

    Attributes:
        name: The month, such as 2026-10, or the name of an unnamed drop's folder or file.
        span: The month as a number, such as 202610; 0 for an unnamed drop.
        uri: The folder or CSV file.
        fingerprint: Changes when any file of the drop does.
        version: Which delivery of the month it is, from 1.
    """

    name: str
    span: int
    uri: str
    fingerprint: str
    version: int = 1


def find_drops(root: str, window: int, month: str | None = None) -> list[Drop]:
    """Finds the drops that train one model, the oldest first.

    A window is of calendar months: a month that was never delivered leaves a gap, and does not let an older one in.

    Args:
        root: The data root.
        window: How many months, the newest included.
        month: The newest month to take; the newest there is if None.

    Raises:
        ConfigError: There is no such root, no drop in it, or no such month.
    """
    if not filesystem.exists(root):
        raise ConfigError(f"{root}: no such file or folder", "Correct data.root in the config, or give --data.")
    months = _months(root)
    if not months:
        if month is not None:
            raise ConfigError(f"{root}: holds no folder {month}", "Without month folders, leave --month out.")
        if filesystem.isdir(root) and not filesystem.list_files(root, CSV_PATTERNS):
            raise ConfigError(
                f"{root}: holds neither month folders (YYYY-MM) nor CSV files",
                f"Files are looked for as {', '.join(CSV_PATTERNS)}.",
            )
        return [Drop(_unnamed(root), 0, root, drop_fingerprint(root))]
    if month is not None and month not in months:
        raise ConfigError(f"{root}: holds no folder {month}", f"There are {', '.join(months)}.")
    wanted = window_months(month or months[-1], window)
    return [_month_drop(root, name) for name in wanted if name in months]


def window_months(newest: str, window: int) -> list[str]:
    """The calendar months of a window, the oldest first, such as 2025-12 and 2026-01."""
    year, month = map(int, newest.split("-"))
    count = 12 * year + month - 1
    return [f"{number // 12:04d}-{number % 12 + 1:02d}" for number in range(count - window + 1, count + 1)]


def gaps(drops: Sequence[Drop]) -> list[str]:
    """The months between the oldest and the newest drop that are not there."""
    if len(drops) < 2:
        return []
    names = {drop.name for drop in drops}
    oldest, newest = drops[0].name, drops[-1].name
    apart = 12 * (int(newest[:4]) - int(oldest[:4])) + int(newest[5:]) - int(oldest[5:])
    return [name for name in window_months(newest, apart) if name not in names]


def _unnamed(root: str) -> str:
    """A name for a drop that is no month: its folder or file, in letters that a node of the pipeline may have."""
    stem = root.rstrip("/").rpartition("/")[2].partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]", "_", stem) or "drop"


def _months(root: str) -> Sequence[str]:
    if not filesystem.isdir(root):
        return []
    return sorted(name for name in filesystem.list_folders(root) if _MONTH.fullmatch(name))


def _month_drop(root: str, name: str) -> Drop:
    uri = filesystem.join(root, name)
    return Drop(name, int(name.replace("-", "")), uri, drop_fingerprint(uri))
