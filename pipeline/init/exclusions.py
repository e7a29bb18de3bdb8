"""Sets aside columns that must not be learned from: constants, and those that give the label away."""

from __future__ import annotations

import re

import numpy as np

from pipeline.init.guesses import TIME_NAME, Guesses, shown
from pipeline.init.leaks import enough_clicks, leak_reason

#: Words that name what happens at or after the click.
_AFTER_CLICK = re.compile(
    r"(^|_)(click(ed)?_?(time|timestamp|ts|at|date|datetime|id|x|y|through|throughs|delay)|time_?to_?click"
    r"|post_?click|after_?click|conversions?|converted|conv|purchased?|checkout|dwell|landing|landed|bounced?"
    r"|time_on_(site|page)|session_duration|gclid|fbclid|attributed|install)(_|$)"
)
#: Words that name what happened at earlier impressions, which is known.
_HISTORY = re.compile(r"(^|_)(last|latest|previous|prev|prior|past|before|history|historical|since|avg|mean)(_|$)")


def ignore_constants(guesses: Guesses) -> None:
    """Sets aside columns that are the same in every row."""
    for index in guesses.undecided:
        profile = guesses.profiles[index]
        if profile.distinct == 0:
            guesses.ignore(index, "it is empty in every sampled row", "is empty in every sampled row; ignored.")
        elif profile.is_constant:
            value = shown(next(iter(profile.counts)))
            later = ""
            if TIME_NAME.search(guesses.plain_name(index)) and profile.time_format:
                later = f"; with later data make it a timestamp of the format {profile.time_format}"
            guesses.ignore(
                index,
                f"it is {value} in every sampled row{later}",
                f"is constant ({value} in every sampled row){later}; ignored.",
            )


def ignore_leaks(guesses: Guesses, label: int) -> None:
    """Sets aside columns that give the label away, by their name or by their values."""
    for index in guesses.undecided:
        name = guesses.plain_name(index)
        if _AFTER_CLICK.search(name) and not _HISTORY.search(name):
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
            f"the sample holds {int(labels.sum()):,} clicks in {len(labels):,} rows, too few to tell whether a "
            "column gives the label away: make sure that every column is known when the ad is shown."
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
