"""Finds the columns of which there is at most one: image, timestamp, identifier."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from adclick.pipeline.onboarding.exclusions import ignore_as_later
from adclick.pipeline.onboarding.features import is_text
from adclick.pipeline.onboarding.guesses import ENTITY_NAME, TIME_NAME, Guesses, percent
from adclick.pipeline.onboarding.profile import DIGIT_FORMATS, Profile

_IDENTIFIER_NAME = re.compile(r"(^|_)(id|ids|uuid|guid|key|hash|impression|request|index|row|rowid|unnamed)(_|$|\d)")
#: The id of one impression, whatever else its name holds.
_IMPRESSION_NAME = re.compile(r"(^|_)(impression|request|event|bid|auction|log|view)_?(id|uuid|guid|key|hash)$")
_IMPRESSION_TIME_NAMES = ("timestamp", "impression_time", "event_time", "time", "datetime", "ts", "hour", "date", "dt")
#: The share of repeated ids whose rows may differ otherwise than in label and time.
_MOST_DIFFERING = 0.05
_IMAGE_SUFFIX = re.compile(r"\.(jpe?g|png|webp|gif|bmp)(\?.*)?$", re.IGNORECASE)
_IMAGE_NAME = re.compile(r"(^|_)(image|img|creative|picture|photo|thumbnail|banner|file|path)(_|$)")


def find_image(guesses: Guesses) -> int | None:
    """Decides the image column, if there is one, and gives its number."""
    found = []
    for index in guesses.undecided:
        profile = guesses.profiles[index]
        if profile.share(_IMAGE_SUFFIX) >= 0.9:
            found.append((0, index, f"{profile.share(_IMAGE_SUFFIX):.0%} of its values end like an image file"))
        elif _IMAGE_NAME.search(guesses.plain_name(index)) and _existing_share(guesses, index) >= 0.5:
            found.append((1, index, "its name says so and its values are files that exist"))
    if not found:
        return None
    named = sorted(found, key=lambda item: (not _IMAGE_NAME.search(guesses.plain_name(item[1])), item[0], item[1]))
    _, image, reason = named[0]
    for _, index, _ in named[1:]:
        guesses.ignore(
            index,
            f"only one image column is used, {guesses.called(image)}",
            f"also holds images, but only one column may, {guesses.called(image)}; ignored.",
        )
    web = guesses.profiles[image].share(re.compile("^https?://"))
    if web > 0.05:
        guesses.warnings.append(
            f"column {guesses.called(image)}: {percent(web)} of the images are web addresses, which ingestion does "
            "not fetch: download them and give their paths, or they count as missing."
        )
    elif (
        guesses.profiles[image].share(re.compile("^[a-z0-9]+://")) < 0.05
        and (share := _existing_share(guesses, image)) < 0.95
    ):
        guesses.warnings.append(
            f"column {guesses.called(image)}: of the images tried, {percent(1 - share)} are not there; paths "
            "are relative to the folder of their file. They count as missing."
        )
    guesses.decide(image, "image", reason)
    return image


def _existing_share(guesses: Guesses, index: int) -> float:
    """Of some image paths, spread over the sample, the share that are files."""
    profile = guesses.profiles[index]
    rows = [row for row, cell in enumerate(profile.cells) if cell in profile.counts]
    tried = rows[:: max(1, len(rows) // 100)]
    return sum(_is_file(guesses, row, profile.cells[row]) for row in tried) / max(1, len(tried))


def _is_file(guesses: Guesses, row: int, cell: str) -> bool:
    try:
        return (guesses.sample.folders[row] / cell).is_file()
    except (OSError, ValueError):
        return False


def find_timestamp(guesses: Guesses) -> int | None:
    """Decides the timestamp, if there is one, and gives its number."""
    found = []
    for index in guesses.undecided:
        profile = guesses.profiles[index]
        name = guesses.plain_name(index)
        time_format = profile.time_format if profile.present_share >= 0.95 else None
        is_named = bool(TIME_NAME.search(name))
        # Without a name that says so, eight digits are a code.
        if time_format is None or (
            time_format in DIGIT_FORMATS and not is_named and not time_format.startswith("epoch")
        ):
            continue
        rank = _IMPRESSION_TIME_NAMES.index(name) if name in _IMPRESSION_TIME_NAMES else len(_IMPRESSION_TIME_NAMES)
        found.append((rank + len(_IMPRESSION_TIME_NAMES) * (index in guesses.late_times), index, time_format))
    if not found:
        return None
    _, timestamp, time_format = min(found)
    for _, index, _ in sorted(found):
        if index != timestamp and index in guesses.late_times:
            ignore_as_later(guesses, index)
        elif index != timestamp:
            guesses.ignore(
                index,
                f"only one timestamp is used, {guesses.called(timestamp)}",
                f"is a second time beside {guesses.called(timestamp)}; ignored. Make sure that the latter is when "
                "the ad was shown.",
            )
    if timestamp in guesses.late_times:
        guesses.warnings.append(
            f"column {guesses.called(timestamp)}: its name says that it is known only after the click, but every row "
            "has it, so it was taken for the time that splits the data. Make sure that it is known when a click is "
            "to be predicted."
        )
    times = guesses.profiles[timestamp].times(time_format)
    hours = len(np.unique(times // 3600 % 24))
    weekdays = len(np.unique(times // 86_400 % 7))
    derive = [name for name, enough in (("hour", hours >= 6), ("weekday", weekdays >= 5)) if enough]
    settings: dict[str, Any] = {} if time_format == "iso8601" else {"format": time_format}
    if len(derive) < 2:
        settings["derive"] = derive
    limits = (
        ""
        if len(derive) == 2
        else f"; the sample has {hours} hours of the day and {weekdays} weekdays, too few to learn from all"
    )
    guesses.decide(timestamp, "timestamp", f"its values are times ({time_format}){limits}", **settings)
    return timestamp


def find_identifier(guesses: Guesses) -> int | None:
    """Decides the identifier, if there is one, and gives its number; sets aside all other unique ids."""
    unique = [
        index
        for index in guesses.undecided
        if _is_unique_code(
            guesses.profiles[index], guesses.sample.header and _names_impression(guesses.plain_name(index))
        )
    ]
    candidates = [
        index
        for index in unique
        if guesses.profiles[index].present_share >= 0.99
        and (not guesses.sample.header or _names_impression(guesses.plain_name(index)))
    ]
    identifier = candidates[0] if candidates else None
    if identifier is not None:
        guesses.decide(identifier, "identifier", "nearly every row has a value of its own")
    for index in unique:
        if index != identifier:
            guesses.ignore(
                index,
                "nearly every row has a value of its own, so that nothing can be learned from it",
                "is a unique id taken for a feature: nearly every row has a value of its own, and a model "
                "would learn rows by heart; ignored.",
            )
    for index in guesses.undecided:
        if guesses.sample.header and _repeats(guesses.profiles[index], guesses.plain_name(index)):
            identifier = _decide_repeating(guesses, index, identifier)
    return identifier


def _repeats(profile: Profile, name: str) -> bool:
    """Whether a column is named like the id of an impression, and has values of which most are rare."""
    least = 0.05 if _IMPRESSION_NAME.search(name) else 0.5 if _names_impression(name) else 1.0
    return profile.present_share >= 0.99 and least * profile.present <= profile.distinct < profile.present


def _decide_repeating(guesses: Guesses, index: int, identifier: int | None) -> int | None:
    """Decides a column whose name is an impression's and whose values repeat; gives the identifier's number.

    Rows of one value that are alike but for label and time are one impression, written when it was shown and again when
    it was clicked. Others, such as the ads of one request, are not.
    """
    profile = guesses.profiles[index]
    rows_by_value: dict[str, list[int]] = {}
    for row, cell in enumerate(profile.cells):
        rows_by_value.setdefault(cell, []).append(row)
    repeated = [rows for value, rows in rows_by_value.items() if value in profile.counts and len(rows) > 1]
    compared = [guesses.profiles[other].cells for other in guesses.undecided if other != index]
    differing = [rows for rows in repeated if any(len({cells[row] for row in rows}) > 1 for cells in compared)]
    extra = sum(len(rows) - 1 for rows in repeated)
    says = f"{len(repeated):,} of its {profile.distinct:,} sampled values stand in several rows ({extra:,} rows more)"
    if identifier is None and len(differing) <= _MOST_DIFFERING * len(repeated):
        guesses.decide(index, "identifier", f"its name says so; {says}, alike but for label and time")
        guesses.warnings.append(
            f"column {guesses.called(index)}: names an impression, but {says}, alike but for label and time. They "
            "count as one impression, clicked if any of its rows is."
        )
        return index
    guesses.ignore(
        index,
        f"its name is an impression's, but {says}",
        f"names an impression, but {says}"
        + (f", {len(differing):,} of them in rows that differ in other columns too" if differing else "")
        + "; ignored, as a model would learn it by heart. Give it the role identifier if its rows are one impression.",
    )
    return identifier


def _names_impression(name: str) -> bool:
    is_id = _IDENTIFIER_NAME.search(name) and not ENTITY_NAME.search(name)
    return bool(_IMPRESSION_NAME.search(name) or is_id)


def _is_unique_code(profile: Profile, is_named: bool) -> bool:
    """Whether every row has its own value and these are codes, not text or quantities such as a price."""
    if not profile.is_unique or profile.present < 20 or profile.mean_words() >= 2 or is_text(profile):
        return False
    if profile.numbers is None:
        return True
    numbers = np.unique(profile.numbers)
    steps = np.diff(numbers)
    is_running = bool(len(steps)) and float(np.median(steps)) == 1 and profile.is_integer
    return profile.is_integer and (is_named or is_running or float(numbers.max()) >= 1e6)
