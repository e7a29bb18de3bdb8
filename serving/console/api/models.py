"""`GET /console/api/models`: the versions there are, whom each answers, how it was judged and which run made it."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from adclick.models.metrics import METRICS
from adclick.schema.errors import AdclickError
from adclick.serving.console.api.runs import NOT_AT_HAND
from adclick.serving.gateway.endpoints.endpoint import ApiEndpoint
from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.gateway import Gateway
from adclick.serving.gateway.held_out import Facts, HeldOutRows, Nothing
from adclick.serving.gateway.pipeline_runs import PipelineRuns, RunView, TrafficView
from adclick.serving.gateway.snapshot import Snapshot
from adclick.storage.model_versions import ModelVersions, RollBack

_MOST_VERSIONS = 50
_MOST_RUNS = 1_000
#: Versions are numbered by when they were pushed; what is less is a number that someone gave.
_LEAST_TIME = 1_000_000_000

Place = Literal["push_directory", "held", "withdrawn", "model_server"]


class Answers(Struct):
    route: Annotated[str, Meta(description="The route's name; `shadow` is asked without a say.")]
    label: str | None
    percent: Annotated[float, Meta(description="The share of users, of a shadow that of requests.")]
    is_shadow: bool


class MetricAnswer(Struct):
    name: str
    title: str
    meaning: str
    higher_is_better: bool | None
    value: float | None
    lower: Annotated[float | None, Meta(description="Of the 95 % confidence interval.")]
    upper: float | None


class Version(Struct):
    version: int
    place: Annotated[Place, Meta(description="Where it lies; `model_server`: its server alone knows it.")]
    pushed: Annotated[float | None, Meta(description="In seconds since 1970; null where its number is no time.")]
    answers: Annotated[list[Answers], Meta(description="Whom it answers now.")]
    problem: Annotated[str, Meta(description="Why it is not served, or what it is served without; empty if nothing.")]
    span: Annotated[int | None, Meta(description="The month that it was judged on, such as 202610.")]
    metrics: Annotated[list[MetricAnswer], Meta(description="Over the held-out impressions.")]
    metrics_reason: Annotated[str, Meta(description="Why there are none; empty if there are.")]
    audience_rows: int
    run_id: Annotated[str | None, Meta(description="The run that made it; null if that is not known here.")]
    has_report: bool
    months: Annotated[list[str], Meta(description="The months that the run was given, the oldest first.")]
    drift: Annotated[list[str], Meta(description="What of its newest month had drifted, a line each.")]
    traffic: Annotated[
        TrafficView | None, Meta(description="Its traffic against training, as `adclick monitor` last saw.")
    ]
    traffic_reason: Annotated[str, Meta(description="Why that is not known; empty if it is.")]


class Hold(Struct):
    time: float
    served: int
    reason: str
    by: str


class Models(Struct):
    model: Annotated[str, Meta(description="The model's name.")]
    versions: Annotated[list[Version], Meta(description="The newest first.")]
    count: Annotated[int, Meta(description="How many there are in all.")]
    hold: Annotated[Hold | None, Meta(description="The roll-back that holds later versions back; null if none does.")]
    reason: Annotated[str, Meta(description="Why what lies in the push directory is not known; empty if it is.")]
    runs_reason: Annotated[str, Meta(description="Why no runs are at hand; empty if they are.")]


async def answer(gateway: Gateway, exchange: Exchange) -> Models:
    snapshot = exchange.snapshot
    answers = _answers(snapshot)
    base = snapshot.settings.backend.model_base_path
    places, hold, reason = await asyncio.to_thread(_places, base)
    folders: dict[int, tuple[Place, str]] = dict.fromkeys(answers, ("model_server", ""))
    folders |= places
    made, runs_reason = await asyncio.to_thread(_makers, gateway.runs)
    newest = sorted(folders, reverse=True)[:_MOST_VERSIONS]
    facts = await asyncio.to_thread(_facts, gateway.held_out, {version: folders[version][1] for version in newest})
    traffic = await asyncio.to_thread(_traffic, gateway.runs, newest)
    problems = snapshot.models.problems
    return Models(
        snapshot.settings.backend.model_name,
        [
            _version(
                version,
                folders[version][0],
                answers.get(version, []),
                problems.get(str(version), ""),
                facts[version],
                made.get(version),
                traffic[version],
            )
            for version in newest
        ],
        len(folders),
        None if hold is None else Hold(hold.time.timestamp(), hold.served, hold.reason, hold.by),
        reason,
        runs_reason,
    )


def _answers(snapshot: Snapshot) -> dict[int, list[Answers]]:
    """By version, whom it answers now."""
    routing = snapshot.settings.routing
    percents = {route.name: route.percent for route in routing.routes}
    found: dict[int, list[Answers]] = defaultdict(list)
    for target in snapshot.router.targets:
        model = snapshot.models.current(target)
        if model is None:
            continue
        is_shadow = target is snapshot.router.shadow
        shadow = routing.shadow.percent if routing.shadow is not None else 0.0
        percent = shadow if is_shadow else percents.get(target.name, 100.0)
        found[model.version].append(Answers(target.name, target.label, percent, is_shadow))
    return dict(found)


def _places(base: str) -> tuple[dict[int, tuple[Place, str]], RollBack | None, str]:
    """By version the place and the folder that it lies in; the roll-back that holds; why neither is known."""
    if not base:
        return {}, None, "This gateway does not know the push directory: set backend.model_base_path."
    versions = ModelVersions(base)
    try:
        found: dict[int, tuple[Place, str]] = {}
        found |= dict.fromkeys(versions.withdrawn, ("withdrawn", versions.withdrawn_folder))
        found |= dict.fromkeys(versions.held, ("held", versions.held_folder))
        found |= dict.fromkeys(versions.served, ("push_directory", versions.served_folder))
        return found, versions.hold, ""
    except (AdclickError, OSError, ValueError) as error:
        return {}, None, f"The push directory cannot be read: {error}"


def _makers(runs: PipelineRuns | None) -> tuple[Mapping[int, RunView], str]:
    """By version the run that made it: of several that confirmed it the first."""
    if runs is None:
        return {}, NOT_AT_HAND
    try:
        newest = runs.newest(_MOST_RUNS).runs
    except (AdclickError, OSError) as error:
        return {}, f"The runs cannot be read: {error}"
    return {run.version: run for run in newest if run.version is not None}, ""


def _facts(held_out: HeldOutRows, folders: Mapping[int, str]) -> dict[int, Facts | Nothing]:
    nothing = Nothing("only its model server knows it")
    return {version: held_out.facts(folder, version) if folder else nothing for version, folder in folders.items()}


def _traffic(runs: PipelineRuns | None, versions: Sequence[int]) -> dict[int, TrafficView | str]:
    """By version its traffic against training, or why that is not known."""
    found: dict[int, TrafficView | str] = {}
    for version in versions:
        try:
            traffic = None if runs is None else runs.traffic(version)
        except (AdclickError, OSError, ValueError) as error:
            found[version] = f"What the monitor found cannot be read: {error}"
            continue
        unseen = NOT_AT_HAND if runs is None else "`adclick monitor` has not looked at its traffic yet."
        found[version] = traffic or unseen
    return found


def _version(
    version: int,
    place: Place,
    answers: Sequence[Answers],
    problem: str,
    facts: Facts | Nothing,
    run: RunView | None,
    traffic: TrafficView | str,
) -> Version:
    held_out = facts.held_out if isinstance(facts, Facts) else None
    return Version(
        version=version,
        place=place,
        pushed=float(version) if _LEAST_TIME <= version <= time.time() + 86_400 else None,
        answers=list(answers),
        problem=problem,
        span=held_out.span if held_out is not None else None,
        metrics=[]
        if held_out is None
        else [
            MetricAnswer(
                metric.name,
                metric.title,
                metric.meaning,
                metric.higher_is_better,
                (estimate := held_out.metrics[metric.name]).value,
                estimate.lower,
                estimate.upper,
            )
            for metric in METRICS
            if metric.name in held_out.metrics
        ],
        metrics_reason=facts.reason if isinstance(facts, Nothing) else "",
        audience_rows=facts.audience_rows if isinstance(facts, Facts) else 0,
        run_id=run.run_id if run is not None else None,
        has_report=run is not None and run.has_report,
        months=run.months if run is not None else [],
        drift=run.drift if run is not None else [],
        traffic=traffic if isinstance(traffic, TrafficView) else None,
        traffic_reason=traffic if isinstance(traffic, str) else "",
    )


ENDPOINT = ApiEndpoint(
    "GET",
    "/console/api/models",
    name="console_models",
    summary="The versions there are, whom each answers, and how it was judged",
    answer=answer,
    answers_with=Models,
)
