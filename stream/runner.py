"""Runs stages until they are told to end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import FeatureTable
from adclick.serving.foreground import Stopping, settle
from adclick.stream.alerts.grouping import Alerts
from adclick.stream.alerts.receivers import receivers_of
from adclick.stream.metrics import StreamMetrics
from adclick.stream.settings import StreamSettings

if TYPE_CHECKING:
    from adclick.stream.scoring import ClickScorer

logger = logging.getLogger(__name__)

StageName = Literal["features", "score", "alerts"]
STAGES: tuple[StageName, ...] = get_args(StageName)


class Stage(Protocol):
    """A loop of transactions."""

    def step(self) -> int:
        """Does what there is to do, and says how many messages were consumed."""

    def close(self) -> None:
        """Leaves the broker; what is not committed is undone."""


@dataclass(frozen=True)
class Deployment:
    """What a process of the stream needs to know.

    Attributes:
        settings: The stream.
        features: The config's columns.
        model_name: The model's name.
        model_base_path: The push directory.
        state: The folder of the state of stages that have one.
        stages: `("features", "score", "alerts")` in one process and one transaction, or one of them.
        instance: What tells a scorer from others of its group.
    """

    settings: StreamSettings
    features: FeatureTable
    model_name: str
    model_base_path: str
    state: Path
    stages: tuple[StageName, ...] = STAGES
    instance: str | None = None


def parse_stages(text: str) -> tuple[StageName, ...]:
    """The stages that a command line names.

    Raises:
        ConfigError: There is no such stage, or these do not run in one process.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    found = tuple(stage for stage in STAGES if stage in names)
    if len(found) != len(names) or (len(found) != 1 and found not in (STAGES, STAGES[:2])):
        raise ConfigError(
            f"--stages {text!r}: no such stages",
            "Give features,score,alerts (all of them in one process), features,score, or one of them.",
        )
    return found


def run_stream(
    deployment: Deployment,
    stopping: threading.Event | Stopping,
    metrics: StreamMetrics,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Runs stages until `stopping` is set.

    Args:
        deployment: Which, and on what.
        stopping: Ends it after the transaction that is under way.
        metrics: Where they count.
        on_ready: Called when events are consumed.

    Raises:
        ConfigError: A topic, the model or its threshold is missing, or the state is not of this broker.
        BrokerUnreachable: The broker stayed away.
    """
    with ExitStack() as stack:
        stage = _stage(deployment, metrics, stack)
        stack.callback(stage.close)
        if "alerts" in deployment.stages:
            _start_deliveries(deployment.settings, metrics, stack)
        on_ready()
        settle()
        while not stopping.is_set():
            stage.step()


def scorer_of(deployment: Deployment, stack: ExitStack) -> ClickScorer:
    """What asks the deployment's model, until the stack is closed.

    Raises:
        ConfigError: No version can be asked, or it has no threshold.
    """
    # TensorFlow's import takes seconds.
    from adclick.stream.scoring import ClickScorer

    scorer = ClickScorer(
        deployment.settings.scorer,
        deployment.settings.alerts,
        deployment.features,
        model_name=deployment.model_name,
        model_base_path=deployment.model_base_path,
    )
    stack.callback(scorer.close)
    return scorer


def _stage(deployment: Deployment, metrics: StreamMetrics, stack: ExitStack) -> Stage:
    # Heavy imports: Kafka's client, RocksDB, TensorFlow.
    from adclick.stream.stages.alerter import AlertStage
    from adclick.stream.stages.judge import Judge
    from adclick.stream.stages.members import ScorerStage
    from adclick.stream.stages.operator import OperatorStage
    from adclick.stream.state.rocksdb import RocksState

    settings, stages = deployment.settings, deployment.stages
    judge, scorer = None, None
    if "score" in stages:
        scorer = scorer_of(deployment, stack)
        judge = Judge(scorer, metrics)
    if stages == ("score",):
        assert judge is not None
        return ScorerStage(settings, judge=judge, metrics=metrics, instance=deployment.instance)
    folder = deployment.state
    # That of the features is as `backfill` leaves it.
    store = RocksState(folder.with_name(f"{folder.name}_alerts") if stages == ("alerts",) else folder)
    stack.callback(store.close)
    if stages == ("alerts",):
        return AlertStage(settings, store, metrics=metrics)
    alerts = None
    if "alerts" in stages:
        assert scorer is not None
        most, found = settings.alerts.evidence, scorer
        alerts = Alerts(settings.alerts, store, lambda click: found.explain(click, most))
    return OperatorStage(settings, deployment.features, store, judge=judge, alerts=alerts, metrics=metrics)


def _start_deliveries(settings: StreamSettings, metrics: StreamMetrics, stack: ExitStack) -> None:
    from adclick.stream.stages.deliverer import Deliverer

    for receiver in receivers_of(settings.alerts):
        stack.callback(Deliverer(settings, receiver, metrics).close)
