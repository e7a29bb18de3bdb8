"""What a section of the report is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adclick.pipeline.report.facts import RunReport


def _no_facts(_report: RunReport) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Section:
    """A section of the page, and its line in the contents.

    Attributes:
        name: Its anchor; its template is `templates/sections/<name>.html.j2`.
        title: Its heading.
        facts: What its template reads beside the report, its record, its `months`, the `newest`
            month's name and the run's `total_seconds`.
    """

    name: str
    title: str
    facts: Callable[[RunReport], Mapping[str, Any]] = _no_facts
