"""What is known of each column while its role is being guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from adclick.pipeline.onboarding.profile import Profile
from adclick.pipeline.onboarding.sampling import LogSample

#: Ids of things that come back: never the id of one impression.
ENTITY_NAME = re.compile(
    r"(^|_)(user|visitor|device|cookie|session|member|customer|ip|ad|ads|creative|campaign|advertiser|banner|adgroup|line_?item"
    r"|site|app|page|publisher|placement|slot|zone|product|item|brand|category|model|domain)(_|$)"
)
TIME_NAME = re.compile(r"(^|_)(timestamp|time|date|datetime|hour|ts|day|dt|when)(_|$)")


@dataclass
class Guesses:
    """What is known so far; each column is decided once, by the first rule that knows it.

    Attributes:
        sample: What was read.
        profiles: Each column's values.
        by_index: By number of a decided column, its entry in the config and the reason.
        late_times: Times that every row has although their name says that they are known only after the click.
        clicked: By sampled row, 1 where it was clicked, 0 where not, -1 where it has no label; once the label is known.
        warnings: What is likely to ruin a click model.
    """

    sample: LogSample
    profiles: tuple[Profile, ...]
    by_index: dict[int, tuple[dict[str, Any], str]] = field(default_factory=dict)
    late_times: list[int] = field(default_factory=list)
    clicked: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    warnings: list[str] = field(default_factory=list)

    @property
    def undecided(self) -> list[int]:
        """The numbers of the columns that no rule has decided yet."""
        return [index for index in range(len(self.profiles)) if index not in self.by_index]

    def decide(self, index: int, role: str, reason: str, **settings: Any) -> None:
        """Gives a column its role and the settings that differ from the role's defaults."""
        self.by_index[index] = ({"role": role, **settings}, reason)

    def ignore(self, index: int, reason: str, warning: str) -> None:
        """Sets a column aside and warns of it."""
        self.decide(index, "ignored", reason)
        self.warnings.append(f"column {self.called(index)}: {warning}")

    def called(self, index: int) -> str:
        """How messages name a column."""
        return repr(self.profiles[index].source) if self.sample.header else f"number {index + 1}"

    def plain_name(self, index: int) -> str:
        """The header's name in lower-case words joined by underscores; empty where there is no header."""
        return plain_name(self.profiles[index].source) if self.sample.header else ""


def plain_name(name: str) -> str:
    """A header's name in lower-case words joined by underscores: `isClick` and `Is Click` become `is_click`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.9995 or share == 1 else "nearly 100%"


def shown(value: str) -> str:
    return repr(value if len(value) <= 40 else f"{value[:37]}...")
