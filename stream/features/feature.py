"""What every kind of feature has: its declaration, and its state as a function of one key's events in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from adclick.schema.times import microseconds_of

#: The fields of an event by name.
Fields = Mapping[str, str | float]

#: A feature's state of one key: nested lists of numbers and texts, changed in place.
State = list[Any]

#: Takes an event into a state: the state, the event's time in microseconds, its fields.
Add = Callable[[State, int, Fields], None]

#: The feature of an event, once the event is in the state; None where it is missing.
Value = Callable[[State, int, Fields], float | None]

#: A click's column that the join with its impression adds: seconds from impression to click.
SECONDS_TO_CLICK = "seconds_to_click"

_SECOND = 1_000_000


def _window(text: str) -> str:
    length = microseconds_of(text)
    if not _SECOND <= length <= 366 * 86_400 * _SECOND:
        raise ValueError(f"{text!r} is not between 1s and 366d")
    return text


Window = Annotated[str, AfterValidator(_window)]


class Feature(BaseModel):
    """A feature of clicks, and its state as a function of one key's events in order.

    Attributes:
        by: The columns of the key; none of a feature that the join of click and impression gives.
        of: The events that it looks at.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: tuple[str, ...]
    of: Literal["clicks", "impressions"]

    @property
    def length(self) -> int:
        """The window in microseconds: what an untouched key's state says nothing after."""
        raise NotImplementedError

    @property
    def texts(self) -> frozenset[str]:
        """The columns that it reads as text."""
        return frozenset(self.by)

    @property
    def numbers(self) -> frozenset[str]:
        """The columns that it reads as numbers."""
        return frozenset()

    @property
    def needs_impressions(self) -> bool:
        """Whether it reads what the join of click and impression gives."""
        return False

    @property
    def explanation(self) -> str:
        """In words, what the feature is and what is kept for a key."""
        raise NotImplementedError

    def new_state(self) -> State:
        """The state of a key without events."""
        raise NotImplementedError

    def add(self) -> Add:
        """The function that takes an event in."""
        raise NotImplementedError

    def value(self) -> Value:
        """The function that gives a click's value."""
        raise NotImplementedError


class WindowFeature(Feature):
    """A feature over the last events of a key."""

    by: tuple[str, ...] = Field(
        min_length=1, description="The key: the columns whose values an event shares with those that it is seen with."
    )
    of: Literal["clicks", "impressions"] = Field("clicks", description="The events that are looked at.")
    window: Window = Field(description="How far back it looks: a number and s, m, h or d, from 1s to 366d.")

    @property
    def length(self) -> int:
        return microseconds_of(self.window)


def in_words(length: int) -> str:
    """A length of time in microseconds as a person writes it."""
    seconds = length / _SECOND
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"
