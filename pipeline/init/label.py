"""Finds the column that says whether an impression was clicked."""

from __future__ import annotations

from typing import NoReturn

from pipeline.init.guesses import Guesses, percent
from pipeline.init.profile import Profile
from schema.errors import ConfigError

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


def find_label(guesses: Guesses) -> int:
    """Decides the label and gives its number.

    Raises:
        ConfigError: The column that is named like a label is not 0 or 1, or no column is.
    """
    profiles, sample = guesses.profiles, guesses.sample
    plain = [guesses.plain_name(index) for index in range(len(profiles))]
    named = [plain.index(name) for name in _LABEL_NAMES if name in plain]
    binary = [index for index, profile in enumerate(profiles) if _is_binary(profile)]
    label = next((index for index in named if index in binary), None)
    if label is not None:
        reason = f"its name says so and it is 0 or 1: {percent(_click_rate(profiles[label]))} of the rows are clicks"
    else:
        plausible = [index for index in binary if 0.0001 <= _click_rate(profiles[index]) <= 0.6]
        if named and not (plausible and plain[named[0]] in _VAGUE_LABEL_NAMES):
            _refuse_label(guesses, named[0])
        if not plausible:
            raise ConfigError(
                f"{sample.root}: no column is a label: none is named {', '.join(_LABEL_NAMES[:6])}, … and none holds "
                "0 and 1 with at most 60 % ones",
                "Give each impression a column `clicked`: 1 where it was clicked, 0 where it was not.",
            )
        label = plausible[0]
        reason = f"the first column that is 0 or 1: {percent(_click_rate(profiles[label]))} of the rows are 1"
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
        odd = [value for value in profile.counts if value not in ("0", "1")][:3]
        guesses.warnings.append(
            f"column {guesses.called(label)}: {bad:,} sampled rows ({bad / sample.rows:.2%}) have no label "
            "that is 0 or 1"
            + (f" but {', '.join(map(repr, odd))}" if odd else "")
            + "; ingestion will quarantine such rows."
        )
    if _click_rate(profile) > 0.5:
        guesses.warnings.append(
            f"column {guesses.called(label)}: {percent(_click_rate(profile))} of the rows are clicks, far more "
            "than ads get; make sure that 1 means clicked, and give training.negative_sampling_rate if unclicked rows "
            "were dropped."
        )
    guesses.decide(label, "label", reason)
    return label


def _is_binary(profile: Profile) -> bool:
    good = sum(profile.counts.get(value, 0) for value in ("0", "1"))
    return {"0", "1"} <= profile.counts.keys() and good >= 0.95 * profile.present and profile.present_share >= 0.95


def _click_rate(profile: Profile) -> float:
    return profile.counts["1"] / max(1, profile.counts["0"] + profile.counts["1"])


def _refuse_label(guesses: Guesses, index: int) -> NoReturn:
    profile = guesses.profiles[index]
    shown = ", ".join(f"{value!r} ({count:,} rows)" for value, count in profile.counts.most_common(5))
    row = next((n for n, cell in enumerate(profile.cells) if cell not in ("0", "1")), 0)
    where = f"{guesses.sample.root}: column {guesses.called(index)}"
    values = set(profile.counts)
    if not profile.counts:
        raise ConfigError(f"{where}: the label is empty in every row", "Export the log with its clicks.")
    if values <= {"0", "1"}:
        if profile.present_share < 0.95:
            raise ConfigError(
                f"{where}: the label is empty in {1 - profile.present_share:.1%} of the sampled rows",
                "Write 0 where the impression was not clicked.",
            )
        raise ConfigError(
            f"{where}: the label is {min(values)} in every sampled row: there is nothing to learn",
            "Export clicked and unclicked impressions alike.",
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
