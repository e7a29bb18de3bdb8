"""Tells quantities, codes, lists and free text apart."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np

from pipeline.init.guesses import ENTITY_NAME, Guesses, shown
from pipeline.init.profile import Profile, skewness

_HTML = re.compile(r"</?[a-zA-Z][^>]*>|&[a-z]+;")
_STRUCTURE = re.compile(r"^\s*[\[{]")
_DECORATION = re.compile(r"[\",]")
_COMMA_NUMBER = re.compile(r"^[+-]?\d[\d.]*(,\d+)*$")
_CODE_NAME = re.compile(
    r"(^|_)(id|code|type|pos|position|category|cat|class|os|slot|zip|zipcode|postcode|port|hour|day|weekday|month|country|region"
    r"|city|segment|width|height|size|format|version|carrier|brand|model|channel|gender|exchange|browser|language|bucket|c\d+)(_|$)"
)
_QUANTITY_NAME = re.compile(
    r"(^|_)(count|counts|num|n|price|bid|bidfloor|floor|cost|amount|age|score|ctr|rate|ratio|duration|impressions|views|freq|frequency"
    r"|avg|mean|total|sum|days|hours|seconds|minutes|since|recency|distance|budget|income|temperature|length|area|i\d+|integer|int"
    r"|lat|latitude|lon|longitude)(_|$)"
)
#: Distinct values above which a column is an id whose values come and go, rather than a list that a person can review.
MAX_DOMAIN = 50
_MAX_VOCABULARY = 1_000_000


def decide_feature(guesses: Guesses, index: int) -> None:
    """Decides a column that no other rule has decided."""
    profile = guesses.profiles[index]
    if profile.share(_COMMA_NUMBER) > 0.9 and profile.share(_DECORATION) > 0.2:
        guesses.ignore(
            index,
            "its numbers are written with a comma; write them as 1234.5 and give it the role numeric",
            "holds numbers written with a comma, which cannot be read; ignored. Write them as 1234.5.",
        )
        return
    separator = _separator(profile)
    if separator is None and is_text(profile):
        markup = "HTML, " if profile.share(_HTML) > 0.01 else ""
        quotes = "quotes and commas, " if profile.share(_DECORATION) > 0.05 else ""
        text = f"free text ({markup}{quotes}{profile.mean_words():.0f} words on average)"
        guesses.ignore(
            index,
            f"it is {text}",
            f"is {text}, which the model does not read; ignored.",
        )
        return
    if separator is not None:
        _decide_multi_valued(guesses, index, separator)
    elif profile.numbers is not None and _is_quantity(profile, guesses.plain_name(index)):
        _decide_numeric(guesses, index)
    else:
        _decide_categorical(guesses, index)


def is_text(profile: Profile) -> bool:
    """Whether cells hold sentences, markup or structured text rather than names or codes."""
    if profile.numbers is not None or not profile.counts:
        return False
    words = profile.mean_words()
    mostly_distinct = profile.distinct > 0.5 * profile.present
    return (
        _has_markup(profile)
        or words >= 5
        or (profile.mean_length() >= 60 and words >= 2)
        or (words >= 3 and mostly_distinct and profile.present >= 20)
    )


def _has_markup(profile: Profile) -> bool:
    return profile.share(_HTML) > 0.01 or profile.share(_STRUCTURE) > 0.5


def _separator(profile: Profile) -> str | None:
    """What separates the values of a cell, if cells hold differing numbers of values that recur."""
    if profile.numbers is not None or _has_markup(profile):
        return None
    for separator in ("|", ";", ","):
        parts: Counter[str] = Counter()
        widths: Counter[int] = Counter()
        for value, count in profile.counts.items():
            values = [part for part in value.split(separator) if part]
            widths[len(values)] += count
            for part in values:
                parts[part] += count
        several = sum(count for width, count in widths.items() if width > 1)
        total = sum(parts.values())
        if (
            several >= 0.05 * profile.present
            and len(widths) > 1
            and len(parts) < 0.5 * total
            and sum(len(part.split()) * count for part, count in parts.items()) < 2 * total
        ):
            is_spaced = profile.share(re.compile(re.escape(separator) + r"(?! )")) == 0
            return f"{separator} " if is_spaced else separator
    return None


def _decide_multi_valued(guesses: Guesses, index: int, separator: str) -> None:
    profile = guesses.profiles[index]
    widths = np.repeat(
        [len([part for part in value.split(separator) if part]) for value in profile.counts],
        list(profile.counts.values()),
    )
    longest = int(np.quantile(widths, 0.99))
    settings: dict[str, Any] = {} if separator == "|" else {"separator": separator}
    if longest > 16:
        settings["max_values"] = min(longest, 64)
    values = {part for value in profile.counts for part in value.split(separator) if part}
    reason = f"cells hold up to {longest} of {len(values):,} values, separated by {separator!r}"
    guesses.decide(index, "multi_valued", reason, **settings)


def _is_quantity(profile: Profile, name: str) -> bool:
    """Whether numbers are amounts, of which more is more, rather than codes."""
    numbers = profile.numbers
    assert numbers is not None
    if not profile.is_integer:
        return True
    if profile.has_leading_zeros:
        return False
    if _QUANTITY_NAME.search(name):
        return True
    if _CODE_NAME.search(name) or ENTITY_NAME.search(name) or profile.distinct <= 2:
        return False
    values, counts = np.unique(numbers, return_counts=True)
    # Counts start near zero and thin out towards a long tail.
    starts_low = float(values[0]) <= 1
    thins_out = counts[: max(3, len(values) // 4)].max() == counts.max()
    if starts_low and thins_out and (len(values) > 5 or not name):
        return True
    if len(values) <= MAX_DOMAIN:
        return False
    # Codes leave wide gaps, and some of them far from zero recur in many rows.
    sparse = len(values) < 0.05 * (float(values[-1]) - float(values[0]) + 1)
    return not (sparse and (float(values[0]) >= 100 or counts.max() < 0.02 * len(numbers)))


def _decide_numeric(guesses: Guesses, index: int) -> None:
    profile = guesses.profiles[index]
    numbers = profile.numbers
    assert numbers is not None
    kind = "numbers" if not profile.is_integer else "counts" if numbers.min() >= 0 else "whole numbers"
    digits = ",.0f" if profile.is_integer else ",.4g"
    span = f"{kind} from {numbers.min():{digits}} to {numbers.max():{digits}}"
    settings: dict[str, Any] = {}
    if np.mean(numbers < 0) < 0.2 and skewness(numbers) > 2:
        settings["scaling"] = "log"
        span += ", most of them small, so the logarithm is taken"
    if profile.distinct > 20 and settings:
        settings["buckets"] = 20
    if profile.missing_markers:
        settings["missing"] = list(profile.missing_markers)
        span += f"; {_markers(profile)} stands apart from all others and is taken for missing"
    guesses.decide(index, "numeric", span + _missing_note(profile), **settings)


def _decide_categorical(guesses: Guesses, index: int) -> None:
    profile = guesses.profiles[index]
    settings: dict[str, Any] = {}
    estimate = profile.estimated_distinct
    reason = f"{profile.distinct:,} values in the sample"
    if estimate > 1.2 * profile.distinct:
        reason += f", about {_rounded(estimate):,} in all the data"
    if estimate > _MAX_VOCABULARY:
        settings.update(encoding="hashed", hash_buckets=262_144)
        reason += ": too many for a vocabulary, so they are hashed"
    elif estimate > MAX_DOMAIN * 1_000:
        settings.update(min_count=5)
        reason += "; the rare ones share one bucket"
    elif estimate > 1_000:
        settings.update(min_count=3)
        reason += "; the rare ones share one bucket"
    if profile.numbers is not None:
        reason = f"codes rather than quantities: {reason}"
    if profile.missing_markers:
        settings["missing"] = list(profile.missing_markers)
        reason += f"; {_markers(profile)} stands apart from all others and is taken for missing"
    guesses.decide(index, "categorical", reason + _missing_note(profile), **settings)


def _markers(profile: Profile) -> str:
    return ", ".join(map(shown, profile.missing_markers))


def _missing_note(profile: Profile) -> str:
    missing = 1 - profile.present_share
    return f"; missing in {missing:.1%} of the rows" if missing > 0.0005 else ""


def _rounded(number: int) -> int:
    digits = max(0, len(str(number)) - 2)
    return round(number, -digits)
