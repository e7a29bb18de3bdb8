"""What devices reported, for Prometheus: some series for each device, none for each creative."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from adclick.serving.gateway.device_state import REFUSAL_REASONS, TYPES, DeviceState, number_of

_PREFIX = "adclick_edge_"
#: Gauges of the last heartbeat, and what they mean.
_GAUGES = {
    "bundle_version": "The bundle that runs.",
    "frames_a_second": "Frames a second since the heartbeat before.",
    "temperature_celsius": "The hottest sensor.",
    "memory_bytes": "Resident memory of the runtime.",
    "disk_free_bytes": "Free on the disk of the runtime's state.",
}


class DeviceMetrics:
    """Counts reports, and tells the devices' states when it is asked.

    Args:
        registry: Where to.
        states: Gives the devices by name.
        dropped_reports: How many kept reports went because there was no more room.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        states: Callable[[], Mapping[str, DeviceState]],
        dropped_reports: Callable[[], int] = lambda: 0,
    ) -> None:
        self._states, self._dropped_reports = states, dropped_reports
        self._reports = Counter(
            f"{_PREFIX}reports", "Reports of devices by what came of them.", ["type", "outcome"], registry=registry
        )
        # A series that first appears at 1 shows Prometheus no increase: these begin at 0.
        for type_ in TYPES:
            for outcome in ("taken", "known", "refused"):
                self._reports.labels(type_, outcome)
        registry.register(self)

    def count(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Counts reports by type and outcome."""
        for (type_, outcome), count in counts.items():
            self._reports.labels(type_, outcome).inc(count)

    def describe(self) -> list[Metric]:
        """Nothing is asked of the devices while the collector is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics, as of now."""
        states = self._states()
        yield GaugeMetricFamily(f"{_PREFIX}devices", "Devices that have reported.", value=len(states))
        text = "Kept reports that went for later ones; they stay counted."
        yield CounterMetricFamily(f"{_PREFIX}reports_dropped", text, value=self._dropped_reports())
        seen = _gauge("last_report_timestamp_seconds", "When a device last reported, by the gateway's clock.")
        frames = _counter("frames", "Frames by what they showed.", "kind")
        recognised = _counter("recognised_frames", "Frames in which a creative was recognised.")
        similarity = _counter("similarity", "The sum of their similarities.")
        alerts = _counter("alerts", "Alerts that were opened.", "kind")
        open_ = _gauge("alert_open", "Whether an alert is open.")
        waiting = _gauge("waiting_messages", "Messages that the device had not sent at its last heartbeat.")
        dropped = _counter("dropped_alerts", "Alerts that the device had no room for.")
        rolled_back = _counter("bundles_rolled_back", "Bundles that a device gave up.")
        text = "Bundles, and files of channels, that devices refused."
        refused = CounterMetricFamily(f"{_PREFIX}bundles_refused", text, labels=["reason"])
        play_seconds = CounterMetricFamily(f"{_PREFIX}play_seconds", "Proofs of play, in seconds.")
        gauges = {name: _gauge(name, text) for name, text in _GAUGES.items()}
        reasons = dict.fromkeys((*REFUSAL_REASONS, "other"), 0)
        played = 0.0
        for device, state in states.items():
            seen.add_metric([device], state.last_seen)
            for kind, count in state.frames.items():
                frames.add_metric([device, kind], count)
            recognised.add_metric([device], state.recognised)
            similarity.add_metric([device], max(0.0, state.similarity_sum))
            for alert_kind in dict.fromkeys(("unknown", "forbidden", *state.alerts)):
                alerts.add_metric([device, alert_kind], state.alerts.get(alert_kind, 0))
            open_.add_metric([device], float(bool(state.open_alert)))
            messages = state.heartbeat.get("waiting")
            if isinstance(messages, dict):
                waiting.add_metric([device], sum(number_of(messages, name) or 0.0 for name in messages))
            dropped.add_metric([device], state.dropped_alerts)
            rolled_back.add_metric([device], state.bundles_rolled_back)
            for name, gauge in gauges.items():
                value = number_of(state.heartbeat, name)
                if value is not None:
                    gauge.add_metric([device], value)
            for reason, times in state.bundles_refused.items():
                reasons[reason] = reasons.get(reason, 0) + times
            played += state.play_seconds
        for reason, times in reasons.items():
            refused.add_metric([reason], times)
        play_seconds.add_metric([], played)
        yield from (seen, frames, recognised, similarity, alerts, open_, waiting, dropped, rolled_back, refused)
        yield from (play_seconds, *gauges.values())


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, text, labels=["device"])


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(_PREFIX + name, text, labels=["device", *labels])
