"""Finds the column that says whether an impression was clicked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from adclick.pipeline.onboarding.guesses import Guesses, percent, shown
from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import Label, label_key

#: The likeliest first.
_LABEL_NAMES = [
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
    "click_label",
    "label",
    "target",
    "y",
    "response",
    "outcome",
]
#: Of these, the names that often mean something else.
_VAGUE_LABEL_NAMES = ("target", "y", "response", "outcome")


#: How logs write that nobody clicked, and that someone did; a label may be written in several ways.
_NUMBERS = (("0", "0.0"), ("1", "1.0"))
_CLICK_WORDS = (
    ("no_click", "noclick", "non_click", "nonclick", "not_clicked", "unclicked", "no_clicked"),
    ("click", "clicked"),
)
_TRUTH_WORDS = ((("false", "f"), ("true", "t")), (("no", "n"), ("yes", "y")))
_SIGNS = (("-1", "-1.0"), ("1", "1.0"))
#: How many texts besides those that were said to mean a click may mean none: a column of more is no label.
_MOST_NEGATIVE_TEXTS = 50


@dataclass(frozen=True)
class _Reading:
    """How a column reads as a label.

    Attributes:
        values: 1 or 0 by text, as the sample has it.
        clicked: Sampled rows that were clicked.
        unclicked: Sampled rows that were not.
        is_numeric: Whether it is written as 0 and 1.
        says_click: Whether its texts speak of clicks.
    """

    values: dict[str, int]
    clicked: int
    unclicked: int
    is_numeric: bool
    says_click: bool

    @property
    def rows(self) -> int:
        return self.clicked + self.unclicked

    @property
    def click_rate(self) -> float:
        return self.clicked / max(1, self.rows)

    def texts(self, value: int) -> list[str]:
        """The texts for a click (1) or for none (0), each once whatever its case."""
        return sorted({label_key(text) for text, read in self.values.items() if read == value})

    def describe(self) -> str:
        if self.is_numeric:
            return "0 or 1"
        clicks, others = (", ".join(map(shown, self.texts(value))) for value in (1, 0))
        return f"{clicks} for a click and {others} for none, in any case"

    def settings(self) -> dict[str, list[str]]:
        """What of it the config must say."""
        defaults = Label(role="label").values
        if all(defaults.get(label_key(text)) == value for text, value in self.values.items()):
            return {}
        return {"positive": self.texts(1), "negative": self.texts(0)}


def _word(text: str) -> str:
    """A text as the lists above spell it: `No-Click` is `no_click`."""
    return re.sub(r"(?<=\w)[\s_-]+(?=\w)", "_", label_key(text))


def _read(counts: Counter[str]) -> _Reading | None:
    """How texts read as a label; None if no way of writing one has both its values among them."""
    words = {_word(text) for text in counts}
    known: dict[str, int] = {}

    def add(ways: Iterable[tuple[tuple[str, ...], tuple[str, ...]]]) -> bool:
        found = [way for way in ways if words & set(way[0]) and words & set(way[1])]
        for unclicked, clicked in found:
            known.update({**dict.fromkeys(unclicked, 0), **dict.fromkeys(clicked, 1)})
        return bool(found)

    is_numeric = add([_NUMBERS])
    says_click = add([_CLICK_WORDS])
    has_words = add(_TRUTH_WORDS)
    if not (is_numeric or says_click or has_words):
        add([_SIGNS])
    values = {text: known[_word(text)] for text in counts if _word(text) in known}
    if not values:
        return None
    clicked = sum(counts[text] for text, value in values.items() if value)
    unclicked = sum(counts[text] for text, value in values.items() if not value)
    return _Reading(values, clicked, unclicked, is_numeric and not (says_click or has_words), says_click)


def _read_as_told(guesses: Guesses, index: int, positive: Sequence[str]) -> _Reading:
    """How a label reads of which it was said what means a click: all else means none."""
    # Empty cells are among them: they mean none, too.
    counts = Counter(guesses.sample.cells[index])
    clicks = {label_key(text) for text in positive}
    values = {text: int(label_key(text) in clicks) for text in counts}
    reading = _Reading(
        values,
        clicked=sum(count for text, count in counts.items() if values[text]),
        unclicked=sum(count for text, count in counts.items() if not values[text]),
        is_numeric=False,
        says_click=True,
    )
    where = f"{guesses.sample.root}: column {guesses.called(index)}"
    held = ", ".join(f"{value!r} ({count:,} rows)" for value, count in counts.most_common(5))
    never = sorted(clicks - {label_key(text) for text in counts})
    if never:
        raise ConfigError(
            f"{where}: no sampled row holds {never[0]!r}, which was given as --positive; it holds {held}",
            "Give a text as it stands in the column, in any case.",
        )
    if not reading.unclicked or len(reading.texts(0)) > _MOST_NEGATIVE_TEXTS:
        what = f"{len(reading.texts(0)):,} other texts" if reading.unclicked else "nothing else"
        raise ConfigError(
            f"{where}: besides what was given as --positive it holds {what}: it is no label",
            "Give as --label the column that says whether an impression was clicked.",
        )
    return reading


def find_label(guesses: Guesses, wanted: str | None = None, positive: Sequence[str] = ()) -> int:
    """Decides the label and gives its number; `guesses.clicked` then says what each row is.

    Args:
        guesses: The columns.
        wanted: The label's name in the CSV header; None to find it.
        positive: The texts of the wanted label that mean a click, in any case; all others mean none. None of them to
            read it by how logs write it.

    Raises:
        ConfigError: There is no column of the wanted name, the column that is named so or like a label does not say
            clicked or not, or no column does.
    """
    profiles, sample = guesses.profiles, guesses.sample
    plain = [guesses.plain_name(index) for index in range(len(profiles))]
    if wanted is None:
        named = [plain.index(name) for name in _LABEL_NAMES if name in plain]
    else:
        named = [index for index in guesses.undecided if profiles[index].source == wanted]
        if not named:
            sources = ", ".join(profile.source for profile in profiles)
            raise ConfigError(f"{sample.root}: no column is called {wanted!r}", f"There are {sources}.")
    readings = {
        index: reading
        for index in guesses.undecided
        if (reading := _read(profiles[index].counts)) is not None
        and reading.rows >= 0.95 * profiles[index].present
        and profiles[index].present_share >= 0.95
    }
    if positive:
        readings = {index: _read_as_told(guesses, index, positive) for index in named}
    label = next((index for index in named if index in readings), None)
    if label is not None:
        reading = readings[label]
        what = f"it is {reading.describe()}"
        why = "its name says so" if wanted is None else "it was given as the label"
        reason = f"{why} and {what}: {percent(reading.click_rate)} of the rows are clicks"
    else:
        plausible = [index for index in readings if 0.0001 <= readings[index].click_rate <= 0.6]
        # Flags that say yes or no are common; those that say click are not.
        plausible.sort(key=lambda index: (not readings[index].says_click, not readings[index].is_numeric, index))
        if named and (wanted is not None or not (plausible and plain[named[0]] in _VAGUE_LABEL_NAMES)):
            _refuse_label(guesses, named[0])
        if not plausible:
            raise ConfigError(
                f"{sample.root}: no column is a label: none is named {', '.join(_LABEL_NAMES[:6])}, … and none holds "
                "0 and 1 (or true and false, yes and no, click and no_click) with at most 60 % clicks",
                "Say which column tells and what in it means a click, by --label COLUMN --positive TEXT, or give each "
                "impression a column `clicked`: 1 where it was clicked, 0 where it was not.",
            )
        label = plausible[0]
        reading = readings[label]
        what = f"it is {reading.describe()}"
        reason = f"the first column that can be a label: {what}, {percent(reading.click_rate)} of the rows clicks"
        if sample.header or len(plausible) > 1:
            others = ", ".join(guesses.called(index) for index in plausible[1:])
            guesses.warnings.append(
                f"column {guesses.called(label)} was taken for the label because {what}"
                + (f"; so could {others}" if others else "; its name does not say so")
                + ". Make sure that it says whether the impression was clicked."
            )
    profile = profiles[label]
    bad = len(sample.cells[label]) - reading.rows
    if bad:
        odd = [value for value in profile.counts if value not in reading.values][:3]
        guesses.warnings.append(
            f"column {guesses.called(label)}: {bad:,} sampled rows ({bad / sample.rows:.2%}) have no label "
            f"that is {reading.describe()}"
            + (f" but {', '.join(map(repr, odd))}" if odd else "")
            + "; ingestion will quarantine such rows."
        )
    if reading.click_rate > 0.5:
        guesses.warnings.append(
            f"column {guesses.called(label)}: {percent(reading.click_rate)} of the rows are clicks, far more "
            f"than ads get; make sure that {' or '.join(map(shown, reading.texts(1)))} means clicked, and give "
            "training.negative_sampling_rate if unclicked rows were dropped."
        )
    guesses.clicked = np.array([reading.values.get(cell, -1) for cell in sample.cells[label]], np.int64)
    guesses.decide(label, "label", reason, **reading.settings())
    return label


def _refuse_label(guesses: Guesses, index: int) -> NoReturn:
    profile = guesses.profiles[index]
    values = ", ".join(f"{value!r} ({count:,} rows)" for value, count in profile.counts.most_common(5))
    where = f"{guesses.sample.root}: column {guesses.called(index)}"
    if not profile.counts:
        raise ConfigError(f"{where}: the label is empty in every row", "Export the log with its clicks.")
    reading = _read(profile.counts)
    texts = {label_key(text) for text in profile.counts}
    if profile.present_share < 0.95 and (len(texts) == 1 or (reading and reading.rows == profile.present)):
        raise ConfigError(
            f"{where}: the label is empty in {1 - profile.present_share:.1%} of the sampled rows",
            "Write 0 where the impression was not clicked.",
        )
    if len(texts) == 1:
        (value,) = texts
        raise ConfigError(
            f"{where}: the label is {value} in every sampled row: there is nothing to learn",
            "Export clicked and unclicked impressions alike.",
        )
    known = reading.values if reading is not None else {"0": 0, "1": 1}
    row = next((n for n, cell in enumerate(profile.cells) if cell not in known), 0)
    numbers = profile.numbers
    if len(texts) == 2:
        low, high = sorted(texts)
        remedy = (
            f"Say which of {low!r} and {high!r} means clicked, by --label {guesses.called(index)} --positive TEXT, or "
            "write 1 for it and 0 for the other."
        )
    elif numbers is not None and numbers.min() >= 0 and profile.is_integer:
        remedy = (
            "Such counts are not labels: give one row per impression, 1 where it was clicked and 0 where it was not. "
            "If the data is aggregated, export the raw impressions."
        )
    else:
        remedy = (
            f"Say what means clicked, by --label {guesses.called(index)} --positive TEXT, or write 1 where the "
            "impression was clicked and 0 where it was not."
        )
    raise ConfigError(
        f"{where}: the label must be 0 or 1 (or true or false, yes or no, click or no_click), but it holds {values}; "
        f"sampled row {row + 1} is the first that is neither",
        remedy,
    )
