"""Finds the drops of a data root: a folder per month, one folder of CSV files, or one CSV file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from adclick.components.ad_example_gen.drop_files import drop_fingerprint, list_folder, no_files_remedy, readable
from adclick.components.ad_example_gen.drop_names import PassedOver, is_litter, is_month, refuse_misnamed
from adclick.components.ad_example_gen.sources import FORMS
from adclick.schema.errors import ConfigError
from adclick.storage import filesystem


@dataclass(frozen=True)
class Drop:
    """One month's delivery.

    Attributes:
        name: The month, such as 2026-10, or the name of an unnamed drop's folder or file.
        span: The month as a number, such as 202610; 0 for an unnamed drop.
        uri: The folder or file.
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
        ConfigError: There is no such root, no drop in it, or no such month; it cannot be read; or a folder is named
            nearly as a month is.
    """
    with readable(root):
        is_there = filesystem.exists(root)
    if not is_there:
        raise ConfigError(f"{root}: no such file or folder", "Correct data.root in the config, or give --data.")
    months = month_folders(root)
    if not months:
        if month is not None:
            raise ConfigError(f"{root}: holds no folder {month}", "Without month folders, leave --month out.")
        if filesystem.isdir(root) and not (listing := list_folder(root)).files:
            raise ConfigError(
                f"{root}: holds neither month folders (YYYY-MM) nor {FORMS} files", no_files_remedy(listing.unread)
            )
        return [Drop(_unnamed(root), 0, root, drop_fingerprint(root))]
    if month is not None and month not in months:
        raise ConfigError(f"{root}: holds no folder {month}", f"There are {', '.join(months)}.")
    wanted = window_months(month or months[-1], window)
    return [_month_drop(root, name) for name in wanted if name in months]


def find_passed_over(root: str, drops: Sequence[Drop]) -> PassedOver:
    """Finds what of a data root a run on these drops does not read; months outside the window are known, not listed."""
    unread: list[str] = []
    litter = 0
    if drops and drops[0].uri != root:
        with readable(root):
            files, folders = filesystem.list_entries(root)
        litter = sum(map(is_litter, [*files, *folders]))
        unread = sorted(name for name in files if not is_litter(name))
        unread += sorted(f"{name}/" for name in folders if not is_litter(name) and not is_month(name))
    for drop in drops:
        if filesystem.isdir(drop.uri):
            listing = list_folder(drop.uri)
            litter += len(listing.litter)
            unread += [name if drop.uri == root else f"{drop.name}/{name}" for name in listing.unread]
    return PassedOver(unread, litter)


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


def month_folders(root: str) -> list[str]:
    """The names of a root's month folders, sorted; raises `ConfigError` where a folder is named nearly as one."""
    if not filesystem.isdir(root):
        return []
    with readable(root):
        folders = filesystem.list_folders(root)
    refuse_misnamed(root, folders)
    return sorted(name for name in folders if is_month(name))


def _month_drop(root: str, name: str) -> Drop:
    uri = filesystem.join(root, name)
    return Drop(name, int(name.replace("-", "")), uri, drop_fingerprint(uri))
