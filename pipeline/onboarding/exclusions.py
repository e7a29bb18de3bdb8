"""Sets aside columns that must not be learned from: without a name, constants, and those that give the label away."""

from __future__ import annotations

import re

import numpy as np

from adclick.pipeline.onboarding.guesses import TIME_NAME, Guesses, shown
from adclick.pipeline.onboarding.leaks import enough_clicks, leak_reason

#: Words that name the click's own time, place and id.
_OF_CLICK = re.compile(
    r"(^|_)(click(ed)?_?(time|timestamp|ts|at|date|datetime|id|x|y|through|throughs|delay)|time_?to_?click"
    r"|gclid|fbclid)(_|$)"
)
#: Words that name what happens after the click.
_AFTER_CLICK = re.compile(
    r"(^|_)(post_?click|after_?click|conversions?|converted|conv|purchased?|checkout|dwell|landing|landed|bounced?"
    r"|time_on_(site|page)|session_duration|attributed|install)(_|$)"
)
#: A label so named happens after the click, which is then known.
_LATER_LABEL = re.compile(
    r"(^|_)(attributed|attribution|install(ed)?|conv|conver(sion|ted)|purchased?|order(ed)?|sale|signup|subscribed?)(_|$)"
)
#: Words that name what happened at earlier impressions, which is known.
_HISTORY = re.compile(r"(^|_)(last|latest|previous|prev|prior|past|before|history|historical|since|avg|mean)(_|$)")


def ignore_unnamed(guesses: Guesses) -> None:
    """Sets aside columns without a name in the header: nobody could say which one is meant."""
    for index, profile in enumerate(guesses.profiles):
        if guesses.sample.header and not profile.source.strip():
            guesses.decide(index, "ignored", "it has no name in the header")
            guesses.warnings.append(
                f"column number {index + 1} has no name in the header, as an index that a data frame library wrote; it "
                "is not read. Give it a name in the header to have it read."
            )


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
    """Sets aside columns that give the label away, by their name or by their values.

    A time that every row has is left to `find_timestamp`: rows that were not clicked have it too.
    """
    of_click_is_known = bool(_LATER_LABEL.search(guesses.plain_name(label)))
    for index in guesses.undecided:
        name = guesses.plain_name(index)
        is_of_click = bool(_OF_CLICK.search(name)) and not of_click_is_known
        if (is_of_click or _AFTER_CLICK.search(name)) and not _HISTORY.search(name):
            profile = guesses.profiles[index]
            if profile.time_format is not None and profile.present == len(profile.cells):
                guesses.late_times.append(index)
            else:
                ignore_as_later(guesses, index)
    rows = np.flatnonzero(guesses.clicked >= 0).tolist()
    labels = guesses.clicked[rows]
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


def ignore_as_later(guesses: Guesses, index: int) -> None:
    """Sets a column aside whose name says that it is known only after the click."""
    guesses.ignore(
        index,
        "its name says that it is known only after the click; give it a role if it is known before",
        "may give the label away: its name says that it is known only after the click; ignored. "
        "Give it a role if it is known when the ad is shown.",
    )
