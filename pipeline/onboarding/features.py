"""Tells quantities, codes, lists and free text apart."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np

from adclick.pipeline.onboarding.carry_over import LEAST_CARRIED, at_random, in_time, most_carried
from adclick.pipeline.onboarding.evidence import readable_numbers, weigh
from adclick.pipeline.onboarding.guesses import ENTITY_NAME, Guesses, percent, shown
from adclick.pipeline.onboarding.profile import Profile, skewness

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
#: A column of about so many values keeps those that occur once; the embeddings of more would slow down every step.
_MAX_SINGLES = 100_000
#: An id of more rows a value, on average, is one that comes back, whether or not it does in the newest rows.
_ROWS_OF_PASSING_IDS = 10
#: The lower half of counts spans at most so many whole numbers for each of its values.
_DENSE = 20


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
        if profile.share(_STRUCTURE) <= 0.5:
            guesses.decide(index, "text", f"{text}, whose words are learned from{_missing_note(profile)}")
            return
        text = f"structured {text}"
        guesses.ignore(
            index,
            f"it is {text}",
            f"is {text}, which the model does not read; ignored.",
        )
        return
    if separator is not None:
        _decide_multi_valued(guesses, index, separator)
    elif profile.numbers is None:
        _decide_categorical(guesses, index)
    else:
        is_quantity, because = _is_quantity(guesses, index)
        if is_quantity:
            _decide_numeric(guesses, index, because)
        else:
            _decide_categorical(guesses, index, because)


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


def _looks_like_quantity(profile: Profile, name: str) -> bool:
    """Whether numbers look like amounts, of which more is more, rather than codes: by their name and their form."""
    numbers = profile.numbers
    assert numbers is not None
    if not profile.is_integer:
        return True
    if _QUANTITY_NAME.search(name):
        return True
    if _CODE_NAME.search(name) or ENTITY_NAME.search(name) or profile.distinct <= 2:
        return False
    values, counts = np.unique(numbers, return_counts=True)
    # Counts start near zero, leave few gaps there, and thin out towards a long tail.
    starts_low = float(values[0]) <= 1
    is_dense = float(values[len(values) // 2]) < _DENSE * (len(values) // 2 + 1)
    thins_out = counts[: max(3, len(values) // 4)].max() == counts.max()
    if starts_low and is_dense and thins_out and (len(values) > 5 or not name):
        return True
    if len(values) <= MAX_DOMAIN:
        return False
    # Codes leave wide gaps, and some of them far from zero recur in many rows.
    sparse = len(values) < 0.05 * (float(values[-1]) - float(values[0]) + 1)
    return not (sparse and (float(values[0]) >= 100 or counts.max() < 0.02 * len(numbers)))


def _is_quantity(guesses: Guesses, index: int) -> tuple[bool, str]:
    """Decides between the two readings of a column of numbers, and says by what.

    The clicks decide where they tell the readings apart. Where they do not, or are too few, the name and the form do.
    """
    profile = guesses.profiles[index]
    if profile.has_leading_zeros:
        return False, "as their leading zeros say"
    looks_like_quantity = _looks_like_quantity(profile, guesses.plain_name(index))
    by_form = "by their name and form"
    if profile.distinct <= 2:
        return looks_like_quantity, by_form
    numbers, usable = readable_numbers(guesses.sample.cells[index], profile.number_texts)
    clicked = guesses.clicked[usable]
    settings = _numeric_settings(profile)
    evidence = weigh(
        numbers[clicked >= 0],
        clicked[clicked >= 0],
        take_logarithm="scaling" in settings,
        # Buckets of few values are codes themselves, and tell the readings apart no more.
        buckets=settings["buckets"] if "scaling" in settings and profile.distinct > settings["buckets"] else 0,
    )
    if evidence is None:
        return looks_like_quantity, f"{by_form}: the sample's clicks are too few to tell"
    if not evidence.is_decisive:
        return looks_like_quantity, f"{by_form}: both readings predict held-out clicks alike"
    return not evidence.favours_codes, evidence.describe()


def _numeric_settings(profile: Profile) -> dict[str, Any]:
    """The scaling and the buckets that a quantity gets."""
    numbers = profile.numbers
    assert numbers is not None
    settings: dict[str, Any] = {}
    if np.mean(numbers < 0) < 0.2 and skewness(numbers) > 2:
        settings["scaling"] = "log"
    # Without, the model could only learn by what its linear share multiplies a quantity.
    settings["buckets"] = 20
    return settings


def _decide_numeric(guesses: Guesses, index: int, because: str) -> None:
    profile = guesses.profiles[index]
    numbers = profile.numbers
    assert numbers is not None
    kind = "numbers" if not profile.is_integer else "counts" if numbers.min() >= 0 else "whole numbers"
    digits = ",.0f" if profile.is_integer else ",.4g"
    span = f"{kind} from {numbers.min():{digits}} to {numbers.max():{digits}}"
    settings = _numeric_settings(profile)
    if "scaling" in settings:
        span += ", most of them small, so the logarithm is taken"
    if profile.missing_markers:
        settings["missing"] = list(profile.missing_markers)
        span += f"; {_markers(profile)} stands apart from all others and is taken for missing"
    if profile.is_integer:
        span += f"; quantities rather than codes, {because}"
    guesses.decide(index, "numeric", span + _missing_note(profile), **settings)


def _decide_categorical(guesses: Guesses, index: int, because: str = "") -> None:
    profile = guesses.profiles[index]
    if _is_passing(guesses, index):
        return
    settings: dict[str, Any] = {}
    estimate = profile.estimated_distinct
    reason = f"{profile.distinct:,} values in the sample"
    if estimate > 1.2 * profile.distinct:
        reason += f", about {_rounded(estimate):,} in all the data"
    if estimate > _MAX_VOCABULARY:
        settings.update(encoding="hashed", hash_buckets=262_144)
        reason += ": too many for a vocabulary, so they are hashed"
    elif estimate > _MAX_SINGLES:
        reason += "; those that occur once share one bucket"
    elif estimate > 1_000:
        # How often a value occurs may say as much as which it is.
        settings.update(min_count=1)
        reason += ", of which each counts: how often a value occurs is learned from, too"
    if because:
        reason = f"codes rather than quantities, {because}; {reason}"
    if profile.missing_markers:
        settings["missing"] = list(profile.missing_markers)
        reason += f"; {_markers(profile)} stands apart from all others and is taken for missing"
    guesses.decide(index, "categorical", reason + _missing_note(profile), **settings)


def _is_passing(guesses: Guesses, index: int) -> bool:
    """Sets a column aside whose values do not come back, and warns of one whose values may not; whether it is aside."""
    profile, sample = guesses.profiles[index], guesses.sample
    if profile.distinct <= MAX_DOMAIN:
        return False
    share = min(1.0, sample.rows / sample.estimated_rows)
    order = in_time(guesses)
    as_written = np.arange(sample.rows) if order is None else order
    carried = most_carried(profile.cells, profile.counts, as_written, share)
    if carried > LEAST_CARRIED:
        return False
    rows_of_each = sample.estimated_rows * profile.present_share / profile.estimated_distinct
    says = f"at most {percent(carried)} of the newest fifth of the rows have a value that stands in earlier rows"
    # Without a time, rows are held out by a hash; and where they are sorted by an id, nothing is known of its return.
    is_sorted = order is None and (
        most_carried(profile.cells, profile.counts, at_random(sample.rows), share) > LEAST_CARRIED
    )
    if is_sorted or rows_of_each > _ROWS_OF_PASSING_IDS:
        guesses.warnings.append(
            f"column {guesses.called(index)}: {says}. If its values do not come back, as those of a session do not, "
            "the model learns nothing from them: give it the role ignored."
        )
        return False
    guesses.ignore(
        index,
        f"its values do not come back: {says}",
        f"has values that do not come back: {says}, of {rows_of_each:.1f} rows each. New rows will have values that "
        "no model knows; ignored. Give it the role categorical if its values return.",
    )
    return True


def _markers(profile: Profile) -> str:
    return ", ".join(map(shown, profile.missing_markers))


def _missing_note(profile: Profile) -> str:
    missing = 1 - profile.present_share
    return f"; missing in {missing:.1%} of the rows" if missing > 0.0005 else ""


def _rounded(number: int) -> int:
    digits = max(0, len(str(number)) - 2)
    return round(number, -digits)
