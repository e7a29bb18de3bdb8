"""The runs that a gateway shows: those of the output folder that its push directory lies in."""

from __future__ import annotations

import os

from adclick.pipeline.runs.platform_refusals import with_refusal
from adclick.pipeline.runs.record import REPORT_FILE, RunRecord, read_record, run_ids
from adclick.pipeline.runs.record_store import run_file, runs_folder
from adclick.pipeline.runs.traffic_findings import find_finding
from adclick.schema.errors import AdclickError
from adclick.serving.gateway.pipeline_runs import RunList, RunView, StepView, TrafficView
from adclick.storage import filesystem

#: Of these a record says nothing new any more.
_ENDED = frozenset({"pushed", "held", "data_refused", "model_refused", "failed"})


class RunsAtHand:
    """The runs of an output folder.

    Args:
        output: The folder.
    """

    def __init__(self, output: str) -> None:
        self._output = output
        self._ended: dict[str, RunView] = {}

    def newest(self, most: int) -> RunList:
        """As `PipelineRuns.newest`."""
        names = run_ids(self._output)
        known = set(names)
        self._ended = {name: view for name, view in self._ended.items() if name in known}
        runs, faults = [], []
        for name in reversed(names[-most:]):
            try:
                runs.append(self._view(name))
            except (AdclickError, OSError, ValueError) as error:
                faults.append(f"The record of run {name} cannot be read: {error}")
        return RunList(runs, len(names), faults)

    def report(self, run_id: str) -> bytes | None:
        """As `PipelineRuns.report`."""
        file = run_file(self._output, run_id, REPORT_FILE)
        # By the list of runs: a name is no path.
        if run_id not in run_ids(self._output) or not filesystem.isfile(file):
            return None
        with filesystem.open_read(file) as stream:
            return stream.read()

    def traffic(self, version: int) -> TrafficView | None:
        """As `PipelineRuns.traffic`."""
        finding = find_finding(self._output, version)
        return None if finding is None else TrafficView(**finding.model_dump(exclude={"version"}))

    def _view(self, run_id: str) -> RunView:
        view = self._ended.get(run_id)
        # Its report comes after its record.
        if view is None or not view.has_report:
            record = with_refusal(read_record(self._output, run_id))
            view = view_of(record, has_report=filesystem.isfile(run_file(self._output, run_id, REPORT_FILE)))
            if record.state in _ENDED and not record.platform:
                self._ended[run_id] = view
        return view


def runs_beside(push_directory: str) -> RunsAtHand | None:
    """The runs of the output folder that a push directory, `OUTPUT/serving_model/MODEL`, lies in; None without any."""
    output = os.path.dirname(os.path.dirname(push_directory.rstrip("/")))
    return RunsAtHand(output) if output and filesystem.isdir(runs_folder(output)) else None


def view_of(record: RunRecord, *, has_report: bool) -> RunView:
    """What people are shown of a record."""
    return RunView(
        run_id=record.run_id,
        state=record.state,
        months=[month.name for month in record.window if month.left_out is None],
        reasons=[*record.reasons, *record.undecided],
        notes=record.notes,
        drift=record.drift,
        started=record.started.timestamp(),
        finished=record.finished.timestamp() if record.finished is not None else None,
        version=record.pushed_version,
        reused_everything=record.reused_everything,
        steps=_steps(record),
        has_report=has_report,
    )


def _steps(record: RunRecord) -> list[StepView]:
    ended = {step.name: StepView(step.name, "reused" if step.reused else "done", step.seconds) for step in record.steps}
    last = "running" if record.state == "running" else "stopped"
    # Records of before the plan was kept know what ended.
    return [
        ended.get(name) or StepView(name, last if name == record.running_step else "waiting", None)
        for name in record.planned_steps or [*ended]
    ]
