"""Infers from a sample what each column of a click log is and how to train on it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from components.ad_example_gen.settings import CsvSettings, SplitSettings
from pipeline.init.leaks import enough_clicks, leak_reason
from pipeline.init.profile import DIGIT_FORMATS, Profile, skewness
from pipeline.init.sampling import Sample
from schema.errors import ConfigError
from schema.feature_table import Categorical

_LABEL_NAMES = (
    *(
        "clicked",
        "is_clicked",
        "was_clicked",
        "has_clicked",
        "click",
        "is_click",
        "has_click",
        "isclick",
        "clk",
        "is_clk",
    ),
    *("click_label", "label", "target", "y", "response", "outcome"),
)
#: Words that name what happens at or after the click.
_AFTER_CLICK = re.compile(
    r"(^|_)(click(ed)?_?(time|timestamp|ts|at|date|datetime|id|url|x|y|through|throughs|delay)|time_?to_?click"
    r"|post_?click|after_?click|conversions?|converted|conv|purchased?|checkout|dwell|landing|landed|bounced?"
    r"|time_on_(site|page)|session_duration|gclid|fbclid|attributed|install(ed)?)(_|$)"
)
_IDENTIFIER_NAME = re.compile(r"(^|_)(id|ids|uuid|guid|key|hash|impression|request|index|row|rowid|unnamed)(_|$|\d)")
#: Ids of things that come back: never the id of one impression.
_ENTITY_NAME = re.compile(
    r"(^|_)(user|visitor|device|cookie|session|member|customer|ip|ad|ads|creative|campaign|advertiser|banner|adgroup|line_?item"
    r"|site|app|page|publisher|placement|slot|zone|product|item|brand|category|model|domain)(_|$)"
)
_TIME_NAME = re.compile(r"(^|_)(timestamp|time|date|datetime|hour|ts|day|dt|when)(_|$)")
_IMPRESSION_TIME_NAMES = ("timestamp", "impression_time", "event_time", "time", "datetime", "ts", "hour", "date", "dt")
_IMAGE_SUFFIX = re.compile(r"\.(jpe?g|png|webp|gif|bmp)(\?.*)?$", re.IGNORECASE)
_IMAGE_NAME = re.compile(r"(^|_)(image|img|creative|picture|photo|thumbnail|banner|file|path)(_|$)")
_HTML = re.compile(r"</?[a-zA-Z][^>]*>|&[a-z]+;")
_STRUCTURE = re.compile(r"^\s*[\[{]")
_DECORATION = re.compile(r"[\",]")
_CODE_NAME = re.compile(
    r"(^|_)(id|code|type|pos|position|category|cat|class|os|slot|zip|zipcode|postcode|port|hour|day|weekday|month|country|region"
    r"|city|segment|width|height|size|format|version|carrier|brand|model|channel|gender|exchange|browser|language|bucket|c\d+)(_|$)"
)
_QUANTITY_NAME = re.compile(
    r"(^|_)(count|counts|num|n|price|bid|bidfloor|floor|cost|amount|age|score|ctr|rate|ratio|duration|impressions|views|freq|frequency"
    r"|avg|mean|total|sum|days|hours|seconds|minutes|since|recency|distance|budget|income|temperature|length|area|i\d+|integer|int"
    r"|lat|latitude|lon|longitude)(_|$)"
)
_AD_NAME = re.compile(r"(^|_)(ad|creative|banner)_?(id|key|hash)?$")
_SLICE_NAMES = (
    "device_type",
    "device",
    "ad_position",
    "banner_pos",
    "position",
    "pos",
    "slot",
    "os",
    "country",
    "site_category",
)
#: Distinct values above which a column is an id whose values come and go, rather than a list that a person can review.
_MAX_DOMAIN = 50
_MAX_VOCABULARY = 1_000_000
_SMALL_DATA_ROWS = 50_000
_LARGE_DATA_ROWS = 5_000_000


@dataclass(frozen=True)
class ColumnGuess:
    """What one column was taken for.

    Attributes:
        name: The column's name in the config.
        settings: Its entry in the config: the role and what differs from the defaults.
        reason: Why, in one line.
    """

    name: str
    settings: Mapping[str, Any]
    reason: str

    @property
    def role(self) -> str:
        return str(self.settings["role"])


@dataclass(frozen=True)
class Section:
    """A part of the config other than the features.

    Attributes:
        settings: What differs from the defaults.
        reasons: Why, a line each.
    """

    settings: Mapping[str, Any]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inference:
    """A whole config, its reasons, and what the schema needs beside it.

    Attributes:
        sample: What was read.
        columns: Every column in the data's order.
        sections: The other parts of the config by key.
        domains: By categorical column of few values, those values.
        presence: By column, the least share of rows that must hold a value.
        warnings: What is likely to ruin a click model.
    """

    sample: Sample
    columns: tuple[ColumnGuess, ...]
    sections: Mapping[str, Section]
    domains: Mapping[str, tuple[str, ...]]
    presence: Mapping[str, float]
    warnings: tuple[str, ...]


@dataclass
class _Guesses:
    """What is known so far; each column gets one guess, the first made."""

    sample: Sample
    profiles: tuple[Profile, ...]
    names: tuple[str, ...] = ()
    by_index: dict[int, tuple[dict[str, Any], str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def undecided(self) -> list[int]:
        return [index for index in range(len(self.profiles)) if index not in self.by_index]

    def decide(self, index: int, role: str, reason: str, **settings: Any) -> None:
        self.by_index[index] = ({"role": role, **settings}, reason)

    def ignore(self, index: int, reason: str, warning: str) -> None:
        self.decide(index, "ignored", reason)
        self.warnings.append(f"column {self.called(index)}: {warning}")

    def called(self, index: int) -> str:
        """How messages name a column."""
        return repr(self.profiles[index].source) if self.sample.header else f"number {index + 1}"

    def plain_name(self, index: int) -> str:
        """The header's name in lower-case words joined by underscores; empty where there is no header."""
        return plain_name(self.profiles[index].source) if self.sample.header else ""


def infer(sample: Sample) -> Inference:
    """Infers the role of every column and the settings that follow from the data.

    Raises:
        ConfigError: No column is a label that is 0 or 1, or no column is left to learn from.
    """
    missing_values = CsvSettings.model_fields["missing_values"].default
    sources = sample.columns or tuple(str(number + 1) for number in range(len(sample.cells)))
    profiles = tuple(
        Profile(source, cells, missing_values, sample.estimated_rows)
        for source, cells in zip(sources, sample.cells, strict=True)
    )
    guesses = _Guesses(sample, profiles, warnings=list(sample.warnings))
    label = _find_label(guesses)
    _ignore_constants(guesses)
    _ignore_leaks(guesses, label)
    image = _find_image(guesses)
    timestamp = _find_timestamp(guesses)
    _find_identifier(guesses)
    for index in guesses.undecided:
        _decide_feature(guesses, index)
    names = _names(guesses)
    _avoid_derived_names(guesses, names, timestamp)
    columns = tuple(
        ColumnGuess(names[index], _with_source(names[index], profile.source, sample.header, settings), reason)
        for index, profile in enumerate(profiles)
        if profile.source.strip()
        for settings, reason in (guesses.by_index[index],)
    )
    by_name = {names[index]: profile for index, profile in enumerate(profiles)}
    settings_by_name = {column.name: column.settings for column in columns}
    features = ("categorical", "multi_valued", "numeric", "image", "timestamp")
    if not any(column.role in features for column in columns):
        raise ConfigError(
            f"{sample.root}: no column is left to learn from; of {len(columns)}, all are the label or ignored\n"
            + "\n".join(guesses.warnings),
            "Give a log whose columns say who saw which ad where.",
        )
    split = _split(guesses, columns, by_name, timestamp)
    return Inference(
        sample=sample,
        columns=columns,
        sections={
            "data": Section({"root": str(sample.root.resolve())}, (_extent(sample),)),
            "csv": _csv_section(sample, names),
            "split": split,
            **_training_sections(sample.estimated_rows),
            "evaluation": _evaluation(columns, by_name, image is not None, names, image),
        },
        domains={
            name: tuple(sorted(value for value in by_name[name].counts if value not in settings.get("missing", ())))
            for name, settings in settings_by_name.items()
            if settings["role"] == "categorical" and _has_domain(by_name[name])
        },
        presence={
            name: _least_presence(by_name[name], settings.get("missing", ()))
            for name, settings in settings_by_name.items()
            if settings["role"] not in ("ignored", "label", "identifier")
        },
        warnings=tuple(guesses.warnings),
    )


def plain_name(name: str) -> str:
    """A header's name in lower-case words joined by underscores: `isClick` and `Is Click` become `is_click`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.9995 or share == 1 else "nearly 100%"


def _extent(sample: Sample) -> str:
    files = f"{len(sample.files)} file{'s' if len(sample.files) > 1 else ''}"
    return f"{files}, about {sample.estimated_rows:,} rows; the guesses below come from a sample of {sample.rows:,}."


# The label.


def _is_binary(profile: Profile) -> bool:
    good = sum(profile.counts.get(value, 0) for value in ("0", "1"))
    return {"0", "1"} <= profile.counts.keys() and good >= 0.95 * profile.present and profile.present_share >= 0.95


def _find_label(guesses: _Guesses) -> int:
    profiles, sample = guesses.profiles, guesses.sample
    plain = [guesses.plain_name(index) for index in range(len(profiles))]
    named = [plain.index(name) for name in _LABEL_NAMES if name in plain]
    binary = [index for index, profile in enumerate(profiles) if _is_binary(profile)]
    label = next((index for index in named if index in binary), None)
    if label is not None:
        reason = f"its name says so and it is 0 or 1: {_percent(_click_rate(profiles[label]))} of the rows are clicks"
    else:
        if named:
            _refuse_label(guesses, named[0])
        plausible = [index for index in binary if 0.0001 <= _click_rate(profiles[index]) <= 0.6]
        if not plausible:
            raise ConfigError(
                f"{sample.root}: no column is a label: none is named {', '.join(_LABEL_NAMES[:6])}, … and none holds "
                "0 and 1 with at most 60 % ones",
                "Give each impression a column `clicked`: 1 where it was clicked, 0 where it was not.",
            )
        label = plausible[0]
        reason = f"the first column that is 0 or 1: {_percent(_click_rate(profiles[label]))} of the rows are 1"
        if sample.header or len(plausible) > 1:
            others = ", ".join(guesses.called(index) for index in plausible[1:])
            guesses.warnings.append(
                f"column {guesses.called(label)} was taken for the label because it is 0 or 1"
                + (f"; so are {others}" if others else "; its name does not say so")
                + ". Make sure that it says whether the impression was clicked."
            )
    profile = profiles[label]
    bad = len(sample.cells[label]) - profile.counts["0"] - profile.counts["1"]
    if bad:
        others = [value for value in profile.counts if value not in ("0", "1")][:3]
        guesses.warnings.append(
            f"column {guesses.called(label)}: {bad:,} sampled rows ({bad / sample.rows:.2%}) have no label that is 0 or 1"
            + (f" but {', '.join(map(repr, others))}" if others else "")
            + "; ingestion will quarantine such rows."
        )
    if _click_rate(profile) > 0.5:
        guesses.warnings.append(
            f"column {guesses.called(label)}: {_percent(_click_rate(profile))} of the rows are clicks, far more than ads get; "
            "make sure that 1 means clicked, and give training.negative_sampling_rate if unclicked rows were dropped."
        )
    guesses.decide(label, "label", reason)
    return label


def _click_rate(profile: Profile) -> float:
    return profile.counts["1"] / max(1, profile.counts["0"] + profile.counts["1"])


def _refuse_label(guesses: _Guesses, index: int) -> None:
    profile = guesses.profiles[index]
    shown = ", ".join(f"{value!r} ({count:,} rows)" for value, count in profile.counts.most_common(5))
    row = next((n for n, cell in enumerate(profile.cells) if cell not in ("0", "1")), 0)
    where = f"{guesses.sample.root}: column {guesses.called(index)}"
    values = set(profile.counts)
    if not profile.counts:
        raise ConfigError(f"{where}: the label is empty in every row", "Export the log with its clicks.")
    if values <= {"0", "1"}:
        if len(values) == 1:
            raise ConfigError(
                f"{where}: the label is {next(iter(values))} in every sampled row: there is nothing to learn",
                "Export clicked and unclicked impressions alike.",
            )
        raise ConfigError(
            f"{where}: the label is empty in {1 - profile.present_share:.1%} of the sampled rows",
            "Write 0 where the impression was not clicked.",
        )
    numbers = profile.numbers
    if len(values) == 2:
        low, high = sorted(values)
        remedy = f"Write 1 for the one of {low!r} and {high!r} that means clicked, and 0 for the other."
    elif numbers is not None and numbers.min() >= 0 and profile.is_integer:
        remedy = (
            "Such counts are not labels: give one row per impression, 1 where it was clicked and 0 where it was not. "
            "If the data is aggregated, export the raw impressions."
        )
    else:
        remedy = "Write 1 where the impression was clicked and 0 where it was not."
    raise ConfigError(
        f"{where}: the label must be 0 or 1, but it holds {shown}; sampled row {row + 1} is the first that is neither",
        remedy,
    )


# Columns that must not be used.


def _ignore_constants(guesses: _Guesses) -> None:
    for index in guesses.undecided:
        profile = guesses.profiles[index]
        if profile.distinct == 0:
            guesses.ignore(index, "it is empty in every sampled row", "is empty in every sampled row; ignored.")
        elif profile.is_constant:
            value = _shown(next(iter(profile.counts)))
            guesses.ignore(
                index, f"it is {value} in every sampled row", f"is constant ({value} in every sampled row); ignored."
            )


def _ignore_leaks(guesses: _Guesses, label: int) -> None:
    for index in guesses.undecided:
        if _AFTER_CLICK.search(guesses.plain_name(index)):
            guesses.ignore(
                index,
                "its name says that it is known only after the click; give it a role if it is known before",
                "may give the label away: its name says that it is known only after the click; ignored. "
                "Give it a role if it is known when the ad is shown.",
            )
    rows = [row for row, cell in enumerate(guesses.sample.cells[label]) if cell in ("0", "1")]
    labels = np.array([int(guesses.sample.cells[label][row]) for row in rows], dtype=np.int64)
    if not enough_clicks(labels):
        guesses.warnings.append(
            f"the sample holds {int(labels.sum()):,} clicks in {len(labels):,} rows, too few to tell whether a column gives "
            "the label away: make sure that every column is known when the ad is shown."
        )
        return
    for index in guesses.undecided:
        cells = guesses.sample.cells[index]
        reason = leak_reason(guesses.profiles[index], [cells[row] for row in rows], labels)
        if reason is not None:
            guesses.ignore(
                index,
                f"it gives the label away: {reason}",
                f"gives the label away: {reason}; ignored. A model that reads it is worthless when the ad is shown.",
            )


# Image, timestamp, identifier: at most one of each.


def _find_image(guesses: _Guesses) -> int | None:
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
            f"column {guesses.called(image)}: {_percent(web)} of the images are web addresses, which ingestion does not fetch: "
            "download them and give their paths, or they count as missing."
        )
    elif (
        guesses.profiles[image].share(re.compile("^[a-z0-9]+://")) < 0.05
        and (share := _existing_share(guesses, image)) < 0.95
    ):
        guesses.warnings.append(
            f"column {guesses.called(image)}: of the images tried, {_percent(1 - share)} are not there; paths are relative to "
            "the folder of the CSV file. They count as missing."
        )
    guesses.decide(image, "image", reason)
    return image


def _existing_share(guesses: _Guesses, index: int) -> float:
    """Of some image paths, spread over the sample, the share that are files."""
    profile = guesses.profiles[index]
    rows = [row for row, cell in enumerate(profile.cells) if cell in profile.counts]
    tried = rows[:: max(1, len(rows) // 100)]
    return sum(_is_file(guesses, row, profile.cells[row]) for row in tried) / max(1, len(tried))


def _is_file(guesses: _Guesses, row: int, cell: str) -> bool:
    try:
        return (guesses.sample.folders[row] / cell).is_file()
    except (OSError, ValueError):
        return False


def _find_timestamp(guesses: _Guesses) -> int | None:
    found = []
    for index in guesses.undecided:
        profile = guesses.profiles[index]
        name = guesses.plain_name(index)
        time_format = profile.time_format if profile.present_share >= 0.95 else None
        is_named = bool(_TIME_NAME.search(name))
        # Without a name that says so, eight digits are a code.
        if time_format is None or (
            time_format in DIGIT_FORMATS and not is_named and not time_format.startswith("epoch")
        ):
            continue
        rank = _IMPRESSION_TIME_NAMES.index(name) if name in _IMPRESSION_TIME_NAMES else len(_IMPRESSION_TIME_NAMES)
        found.append((rank, index, time_format))
    if not found:
        return None
    _, timestamp, time_format = min(found)
    for _, index, _ in sorted(found):
        if index != timestamp:
            guesses.ignore(
                index,
                f"only one timestamp is used, {guesses.called(timestamp)}",
                f"is a second time beside {guesses.called(timestamp)}; ignored. Make sure that the latter is when the ad was shown.",
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


def _find_identifier(guesses: _Guesses) -> int | None:
    unique = [index for index in guesses.undecided if _is_unique_code(guesses.profiles[index])]
    candidates = [
        index
        for index in unique
        if guesses.profiles[index].present_share >= 0.99
        and not _ENTITY_NAME.search(guesses.plain_name(index))
        and (not guesses.sample.header or _IDENTIFIER_NAME.search(guesses.plain_name(index)))
    ]
    # An index that the export wrote has no name and says nothing.
    candidates.sort(key=lambda index: (not guesses.profiles[index].source.strip(), index))
    identifier = candidates[0] if candidates else None
    if identifier is not None:
        guesses.decide(identifier, "identifier", "nearly every row has a value of its own")
    for index in unique:
        if index != identifier:
            guesses.ignore(
                index,
                "nearly every row has a value of its own, so that nothing can be learned from it",
                "is a unique id taken for a feature: nearly every row has a value of its own, and a model would learn rows by "
                "heart; ignored.",
            )
    return identifier


def _is_unique_code(profile: Profile) -> bool:
    """Whether every row has its own value and these are codes, not text or quantities such as a price."""
    if not profile.is_unique or profile.present < 20 or profile.mean_words() >= 2 or _is_text(profile):
        return False
    if profile.numbers is None:
        return True
    numbers = np.unique(profile.numbers)
    steps = np.diff(numbers)
    is_running = bool(len(steps)) and float(np.median(steps)) == 1 and profile.is_integer
    return profile.is_integer and (is_running or float(numbers.max()) >= 1e6)


# Features.


def _decide_feature(guesses: _Guesses, index: int) -> None:
    profile = guesses.profiles[index]
    if _is_text(profile):
        markup = "HTML, " if profile.share(_HTML) > 0.01 else ""
        quotes = "quotes and commas, " if profile.share(_DECORATION) > 0.05 else ""
        guesses.ignore(
            index,
            f"it is free text ({markup}{quotes}{profile.mean_words():.0f} words on average)",
            f"is free text ({markup}{quotes}{profile.mean_words():.0f} words on average), which the model does not read; ignored.",
        )
        return
    separator = _separator(profile)
    if separator is not None:
        _decide_multi_valued(guesses, index, separator)
    elif profile.numbers is not None and _is_quantity(profile, guesses.plain_name(index)):
        _decide_numeric(guesses, index)
    else:
        _decide_categorical(guesses, index)


def _is_text(profile: Profile) -> bool:
    if profile.numbers is not None or not profile.counts:
        return False
    words = profile.mean_words()
    mostly_distinct = profile.distinct > 0.5 * profile.present
    return (
        profile.share(_HTML) > 0.01
        or profile.share(_STRUCTURE) > 0.5
        or words >= 5
        or (profile.mean_length() >= 60 and words >= 2)
        or (words >= 3 and mostly_distinct and profile.present >= 20)
    )


def _separator(profile: Profile) -> str | None:
    """What separates the values of a cell, if cells hold differing numbers of values that recur."""
    if profile.numbers is not None:
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
            return separator
    return None


def _decide_multi_valued(guesses: _Guesses, index: int, separator: str) -> None:
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
    if _CODE_NAME.search(name) or _ENTITY_NAME.search(name) or profile.distinct <= 2:
        return False
    values, counts = np.unique(numbers, return_counts=True)
    # Counts start near zero and thin out towards a long tail.
    starts_low = float(values[0]) <= 1
    thins_out = counts[: max(3, len(values) // 4)].max() == counts.max()
    if starts_low and thins_out and (len(values) > 5 or not name):
        return True
    if len(values) <= _MAX_DOMAIN:
        return False
    # Codes leave wide gaps, and some of them far from zero recur in many rows.
    sparse = len(values) < 0.05 * (float(values[-1]) - float(values[0]) + 1)
    return not (sparse and (float(values[0]) >= 100 or counts.max() < 0.02 * len(numbers)))


def _decide_numeric(guesses: _Guesses, index: int) -> None:
    profile = guesses.profiles[index]
    numbers = profile.numbers
    assert numbers is not None
    kind = "counts" if profile.is_integer else "numbers"
    span = f"{kind} from {numbers.min():g} to {numbers.max():g}"
    settings: dict[str, Any] = {}
    if np.mean(numbers < 0) < 0.2 and skewness(numbers) > 2:
        settings["scaling"] = "log"
        span += ", most of them small, so the logarithm is taken"
    if profile.distinct > 20 and settings:
        settings["buckets"] = 20
    if profile.missing_markers:
        settings["missing"] = list(profile.missing_markers)
        shown = ", ".join(map(_shown, profile.missing_markers))
        span += f"; {shown} stands apart from all others and is taken for missing"
    guesses.decide(index, "numeric", span + _missing_note(profile), **settings)


def _decide_categorical(guesses: _Guesses, index: int) -> None:
    profile = guesses.profiles[index]
    settings: dict[str, Any] = {}
    estimate = profile.estimated_distinct
    reason = f"{profile.distinct:,} values in the sample"
    if estimate > 1.2 * profile.distinct:
        reason += f", about {_rounded(estimate):,} in all the data"
    if estimate > _MAX_VOCABULARY:
        settings.update(encoding="hashed", hash_buckets=262_144)
        reason += ": too many for a vocabulary, so they are hashed"
    elif estimate > _MAX_DOMAIN * 1_000:
        settings.update(min_count=5)
        reason += "; the rare ones share one bucket"
    elif estimate > 1_000:
        settings.update(min_count=3)
        reason += "; the rare ones share one bucket"
    if profile.numbers is not None:
        reason = f"codes rather than quantities: {reason}"
    guesses.decide(index, "categorical", reason + _missing_note(profile), **settings)


def _missing_note(profile: Profile) -> str:
    missing = 1 - profile.present_share
    return f"; missing in {missing:.1%} of the rows" if missing > 0.0005 else ""


def _rounded(number: int) -> int:
    digits = max(0, len(str(number)) - 2)
    return round(number, -digits)


def _shown(value: str) -> str:
    return repr(value if len(value) <= 40 else f"{value[:37]}...")


# Names.


def _names(guesses: _Guesses) -> tuple[str, ...]:
    taken: set[str] = set()
    numbers: Counter[str] = Counter()
    names = []
    for index, profile in enumerate(guesses.profiles):
        role = str(guesses.by_index[index][0]["role"])
        if guesses.sample.header:
            name = re.sub(r"[^A-Za-z0-9_]+", "_", profile.source.strip()).strip("_")
            name = name if name[:1].isalpha() and name.isascii() else f"column_{name or index + 1}"
        elif role in ("label", "image", "timestamp", "identifier"):
            name = role
        else:
            kind = _kind(profile)
            numbers[kind] += 1
            name = f"{kind}_{numbers[kind]}"
        image_status = any(
            guesses.by_index[i][0]["role"] == "image" and f"{names[i]}_status" == name for i in range(index)
        )
        while name in taken or image_status:
            name, image_status = f"{name}_{index + 1}", False
        taken.add(name)
        names.append(name)
    return tuple(names)


def _kind(profile: Profile) -> str:
    if profile.numbers is not None and not profile.has_leading_zeros:
        return "integer" if profile.is_integer else "number"
    return "text" if _is_text(profile) else "category"


def _avoid_derived_names(guesses: _Guesses, names: Sequence[str], timestamp: int | None) -> None:
    """Leaves out of the derived times those for which the data has a column of its own."""
    if timestamp is None:
        return
    settings, reason = guesses.by_index[timestamp]
    derive = settings.get("derive", ["hour", "weekday"])
    features = {
        name for index, name in enumerate(names) if guesses.by_index[index][0]["role"] in ("categorical", "numeric")
    }
    kept = [name for name in derive if name not in features]
    if kept != derive:
        settings["derive"] = kept
        own = ", ".join(sorted(set(derive) - set(kept)))
        guesses.by_index[timestamp] = (settings, f"{reason}; the data has its own {own}")


def _with_source(name: str, source: str, header: bool, settings: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {"source": source} if header and source != name else {}
    return {"role": settings["role"], **renamed, **{key: value for key, value in settings.items() if key != "role"}}


# The rest of the config.


def _csv_section(sample: Sample, names: Sequence[str]) -> Section:
    settings: dict[str, Any] = {}
    reasons = []
    if sample.delimiter != ",":
        settings["delimiter"] = "\\t" if sample.delimiter == "\t" else sample.delimiter
        reasons.append(f"Fields are divided by {'a tab' if sample.delimiter == chr(9) else sample.delimiter}.")
    if not sample.header:
        settings.update(header=False, columns=list(names))
        reasons.append("The first row is data, so the columns are named here, in order.")
    return Section(settings, tuple(reasons))


def _split(
    guesses: _Guesses, columns: Sequence[ColumnGuess], by_name: Mapping[str, Profile], timestamp: int | None
) -> Section:
    share = float(SplitSettings.model_fields["eval_share"].default)
    why = "there is no timestamp"
    if timestamp is not None:
        profile = guesses.profiles[timestamp]
        time_format = str(guesses.by_index[timestamp][0].get("format", "iso8601"))
        minutes, counts = np.unique(profile.times(time_format) // 60, return_counts=True)
        # Held out is whole minutes from the end: how near does that come to the share wanted?
        held_out = np.cumsum(counts[::-1])[::-1] / counts.sum()
        nearest = float(held_out[np.abs(held_out - share).argmin()])
        if len(minutes) > 1 and share / 2 <= nearest <= 2 * share:
            return Section({"by": "time"}, ("The last part of each month is held out: a random split flatters.",))
        why = f"the times are too few ({len(minutes)}) to hold out the last {share:.0%} of the rows"
    identifier = next((column.name for column in columns if column.role == "identifier"), None)
    if identifier is not None:
        return Section({"by": "hash"}, (f"By the hash of {identifier}, because {why}.",))
    name = _column_to_split_by(columns, by_name)
    spread = (share * (1 - share) * _collision(by_name[name])) ** 0.5
    return Section(
        {"by": "hash", "column": name},
        (
            f"By the hash of {name}, because {why} and no identifier: of all columns its values are the most evenly spread.",
            f"Rows of one value stay together, so that the held-out share will be {share:.0%} give or take {spread:.1%}.",
        ),
    )


def _collision(profile: Profile) -> float:
    """How likely two rows hold the same value, a missing one included."""
    rows = len(profile.cells)
    shares = np.array([*profile.counts.values(), rows - profile.present]) / rows
    return float(np.sum(shares**2))


def _column_to_split_by(columns: Sequence[ColumnGuess], by_name: Mapping[str, Profile]) -> str:
    """The column by whose hash to hold out rows.

    A quantity, if one is spread evenly enough: the model reads unseen amounts well, while to hold out ids whole would
    leave the held-out rows without any known id.
    """
    usable = [column for column in columns if column.role in ("numeric", "categorical", "multi_valued", "image")]
    collisions = {column.name: _collision(by_name[column.name]) for column in usable}
    quantities = [column.name for column in usable if column.role == "numeric" and collisions[column.name] < 0.005]
    return min(quantities or collisions or [columns[0].name], key=lambda name: collisions.get(name, 1.0))


def _training_sections(rows: int) -> dict[str, Section]:
    if rows < _SMALL_DATA_ROWS:
        return {
            "network": Section(
                {"embedding_dimension": 4}, ("Little data: narrow embeddings keep it from being learned by heart.",)
            ),
            "training": Section({"batch_size": 256}, ()),
        }
    if rows > _LARGE_DATA_ROWS:
        return {
            "network": Section(
                {"embedding_dimension": 16, "hidden_units": [256, 128]}, ("Much data bears a wider network.",)
            ),
            "training": Section({"batch_size": 4096}, ()),
        }
    return {}


def _evaluation(
    columns: Sequence[ColumnGuess],
    by_name: Mapping[str, Profile],
    has_image: bool,
    names: Sequence[str],
    image: int | None,
) -> Section:
    def slice_rank(column: ColumnGuess) -> tuple[int, int]:
        name = plain_name(column.name)
        rank = _SLICE_NAMES.index(name) if name in _SLICE_NAMES else len(_SLICE_NAMES)
        return rank, by_name[column.name].distinct

    def has_slices(column: ColumnGuess) -> bool:
        profile = by_name[column.name]
        frequent = sum(count >= 0.05 * len(profile.cells) for count in profile.counts.values())
        return column.role == "categorical" and 2 <= profile.distinct <= 20 and frequent >= 2

    slices = [[column.name] for column in sorted(filter(has_slices, columns), key=slice_rank)[:3]]
    if has_image and image is not None:
        slices.append([f"{names[image]}_status"])
    new = _first(
        columns,
        lambda column: (
            column.role == "categorical"
            and column.settings.get("encoding", Categorical.model_fields["encoding"].default) == "vocabulary"
            and bool(_AD_NAME.search(plain_name(column.name)))
            and by_name[column.name].distinct > 20
        ),
    )
    settings: dict[str, Any] = {}
    reasons = []
    if slices:
        settings["slices"] = slices
        reasons.append("Metrics are also given for every value of these columns, which have few.")
    if new is not None:
        settings["new_value_slices"] = [new.name]
        slices.append([f"{new.name}_known"])
        reasons.append(f"{new.name} names the ad: metrics are given for ads that the model knows and for new ones.")
    return Section(settings, tuple(reasons))


def _first(columns: Iterable[ColumnGuess], wanted: Callable[[ColumnGuess], bool]) -> ColumnGuess | None:
    return next(filter(wanted, columns), None)


# The schema.


def _has_domain(profile: Profile) -> bool:
    """Whether the sample has shown every value that is likely to come."""
    return 0 < profile.distinct <= _MAX_DOMAIN and profile.singletons <= 0.01 * profile.present


def _least_presence(profile: Profile, missing: Sequence[str]) -> float:
    """The least share of rows that must hold a value: a fifth less than in the sample, or nearly all if all did."""
    present = (profile.present - sum(profile.counts[value] for value in missing)) / len(profile.cells)
    return 0.99 if present >= 0.999 else int(80 * present) / 100
