"""What a gateway is told of the pipeline's runs, by whoever starts it and has them at hand."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class StepView(Struct, frozen=True):
    """A step of a run.

    Attributes:
        name: The component.
        state: `done`, `reused` from an earlier run, `running`, `stopped` where the run ended, or `waiting`.
        seconds: How long it took; None where it has not ended well.
    """

    name: str
    state: str
    seconds: float | None


class RunView(Struct, frozen=True):
    """A run.

    Attributes:
        run_id: Its name.
        state: What became of it, such as `pushed`, `data_refused` or `running`.
        months: The months of its window, the oldest first.
        reasons: Why it ended as it did, a line each; of a pushed model, what too few clicks decided.
        notes: What a person should know of its data, a line each.
        drift: What of its newest month drifted, a line each.
        started: When it began, in seconds since 1970.
        finished: When it ended; None while it runs.
        version: The version that it pushed; None if none.
        reused_everything: Whether it only confirmed an earlier run.
        steps: Its steps, in the order in which they begin; none of a run on a platform.
        has_report: Whether there is a report.
    """

    run_id: str
    state: str
    months: list[str]
    reasons: list[str]
    notes: list[str]
    drift: list[str]
    started: float
    finished: float | None
    version: int | None
    reused_everything: bool
    steps: list[StepView]
    has_report: bool


class RunList(Struct, frozen=True):
    """The newest runs.

    Attributes:
        runs: The newest first.
        count: How many there are in all.
        faults: Which of the newest could not be read, and why, a line each.
    """

    runs: list[RunView]
    count: int
    faults: list[str]


class TrafficView(Struct, frozen=True):
    """What the monitor last found of a version's traffic against training.

    Attributes:
        made_at: When it looked, in seconds since 1970.
        first: The time of the first prediction that it looked at.
        last: That of the last.
        predictions: How many it looked at.
        state: `in_order`, `alarm` or `not_judged`.
        judged: How many checks were judged.
        alarms: What stands further from training than it may, a line each.
    """

    made_at: float
    first: float
    last: float
    predictions: int
    state: str
    judged: int
    alarms: list[str]


class PipelineRuns(Protocol):
    """The runs of a pipeline. What is asked of it may take a moment; it is called in a thread."""

    def newest(self, most: int) -> RunList:
        """The newest runs, at most so many.

        Raises:
            AdclickError: Nobody can say which there are.
        """

    def report(self, run_id: str) -> bytes | None:
        """A run's report as HTML; None if there is no such run, or no report of it.

        Raises:
            AdclickError: It cannot be read.
        """

    def traffic(self, version: int) -> TrafficView | None:
        """What the monitor last found of a version's traffic; None if it has never seen it.

        Raises:
            AdclickError, OSError, ValueError: It cannot be read.
        """
