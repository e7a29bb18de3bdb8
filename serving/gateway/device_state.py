"""Reports of devices, and what they add up to for one device."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

#: Kinds of frames and of alerts; what a device says besides counts as `other`, so that labels are bounded.
KINDS = ("approved", "unknown", "forbidden", "expired", "early", "broken")
REFUSAL_REASONS = ("damaged", "unsigned", "altered", "too_old", "wrong_runtime", "unfit", "self_test", "crashed")
OTHER = "other"
TYPES = ("alert", "event", "heartbeat", "play")
_LONGEST_NAME = 128
_MOST_BOOTS = 32


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        type: One of `TYPES`.
        device: The device's name.
        key: Its key: a second report of the same device and key changes nothing.
        fields: What it says.
        body: The same as JSON.
    """

    type: str
    device: str
    key: str
    fields: dict[str, Any]
    body: bytes

    @classmethod
    def from_bytes(cls, body: bytes) -> Report:
        """Reads a report.

        Raises:
            ValueError: It is none.
        """
        return cls.from_fields(json.loads(body))

    @classmethod
    def from_fields(cls, fields: Any) -> Report:
        """As `from_bytes`, of what was read from JSON."""
        if not isinstance(fields, dict):
            raise ValueError("a report is an object")
        for name in ("type", "device", "key"):
            value = fields.get(name)
            if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
                raise ValueError(f"{name}: a text of 1 to {_LONGEST_NAME} letters is needed")
        if fields["type"] not in TYPES:
            raise ValueError(f"type: {fields['type']} is none of {', '.join(TYPES)}")
        body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        return cls(fields["type"], fields["device"], fields["key"], fields, body)


def is_heartbeat(report: Report) -> bool:
    """Whether a report is a heartbeat, whose counts go on from those of the one before."""
    return report.type == "heartbeat"


@dataclass
class DeviceState:
    """What is known of a device; counts only grow.

    Attributes:
        last_seen: When it last reported, by the receiver's clock, in seconds since 1970.
        boot: The start of the runtime to which `counted` belongs.
        past_boots: Earlier ones, whose heartbeats come too late.
        sequence: Its last heartbeat.
        counted: What that heartbeat counted: frames by kind, recognised frames, and the sum of their similarity.
        frames: Frames by kind.
        recognised: Frames in which a creative was recognised.
        similarity_sum: The sum of their similarities.
        alerts: Alerts that were opened, by kind.
        open_alert: The id of the alert that is open; empty if none is.
        last_alert: When the last alert was opened, as the device said; empty if none was.
        plays: Proofs of play.
        play_seconds: What they add up to.
        dropped_alerts: Alerts that the device had no room for.
        bundles_refused: Bundles, and files of channels, that it refused, by reason.
        bundles_rolled_back: Bundles that it gave up.
        heartbeat: What the last heartbeat said.
    """

    last_seen: float = 0.0
    boot: str = ""
    past_boots: list[str] = field(default_factory=list)
    sequence: int = -1
    counted: dict[str, float] = field(default_factory=dict)
    frames: dict[str, float] = field(default_factory=dict)
    recognised: float = 0.0
    similarity_sum: float = 0.0
    alerts: dict[str, int] = field(default_factory=dict)
    open_alert: str = ""
    last_alert: str = ""
    plays: int = 0
    play_seconds: float = 0.0
    dropped_alerts: int = 0
    bundles_refused: dict[str, int] = field(default_factory=dict)
    bundles_rolled_back: int = 0
    heartbeat: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> DeviceState:
        """Reads what `to_json` wrote."""
        return cls(**document)

    def to_json(self) -> dict[str, Any]:
        """As JSON's types."""
        return asdict(self)

    def copy(self) -> DeviceState:
        """One that changes apart from this."""
        return copy.deepcopy(self)

    @property
    def unknown_share(self) -> float | None:
        """The share of unknown frames among those that could be decoded; None before the first."""
        decoded = sum(count for kind, count in self.frames.items() if kind != "broken")
        return self.frames.get("unknown", 0.0) / decoded if decoded else None

    def take_heartbeat(self, report: Report) -> bool:
        """Counts a heartbeat; gives whether it was new. One that comes late, after a later one, is not."""
        fields = report.fields
        boot, sequence = str(fields.get("boot", "")), int(_number(fields, "sequence"))
        if boot in self.past_boots or (boot == self.boot and sequence <= self.sequence):
            return False
        counted = {f"frames.{kind}": 0.0 for kind in (*KINDS, OTHER)}
        given = fields.get("frames")
        frames: dict[str, Any] = given if isinstance(given, dict) else {}
        for kind in frames:
            counted[f"frames.{kind if kind in KINDS else OTHER}"] += _number(frames, kind)
        counted["recognised"] = _number(fields, "recognised")
        counted["similarity_sum"] = _number(fields, "similarity_sum")
        before = self.counted if boot == self.boot else {}
        grown = {name: max(0.0, value - before.get(name, 0.0)) for name, value in counted.items()}
        for kind in (*KINDS, OTHER):
            if grown[f"frames.{kind}"] or kind in self.frames:
                self.frames[kind] = self.frames.get(kind, 0.0) + grown[f"frames.{kind}"]
        self.recognised += grown["recognised"]
        self.similarity_sum += grown["similarity_sum"]
        dropped = fields.get("dropped")
        if isinstance(dropped, dict):
            self.dropped_alerts = max(self.dropped_alerts, int(_number(dropped, "dropped_alert")))
        if boot != self.boot:
            self.past_boots = [*self.past_boots, self.boot][-_MOST_BOOTS:]
        self.boot, self.sequence, self.counted = boot, sequence, counted
        self.heartbeat = {name: value for name, value in fields.items() if name in _SHOWN and _is_small(value)}
        return True

    def take(self, report: Report) -> None:
        """Counts an alert, an event or a proof of play."""
        fields = report.fields
        if report.type == "alert":
            self._take_alert(fields)
        elif report.type == "play":
            self.plays += 1
            self.play_seconds += max(0.0, _number(fields, "seconds"))
        elif fields.get("event") in ("bundle_refused", "channel_refused"):
            reason = str(fields.get("reason"))
            reason = reason if reason in REFUSAL_REASONS else OTHER
            self.bundles_refused[reason] = self.bundles_refused.get(reason, 0) + 1
        elif fields.get("event") == "bundle_rolled_back":
            self.bundles_rolled_back += 1

    def _take_alert(self, fields: dict[str, Any]) -> None:
        identifier = str(fields.get("id", ""))
        if fields.get("state") == "open":
            kind = str(fields.get("kind"))
            kind = kind if kind in KINDS else OTHER
            self.alerts[kind] = self.alerts.get(kind, 0) + 1
            self.open_alert, self.last_alert = identifier, str(fields.get("time", ""))[:40]
        elif identifier == self.open_alert:
            self.open_alert = ""


#: What is kept of the last heartbeat.
_SHOWN = frozenset(
    {
        "time", "uptime_seconds", "runtime", "temperature_celsius", "memory_bytes", "disk_free_bytes",
        "bundle_version", "bundle_sha256", "channel", "on_trial", "refused_bundles", "frames_a_second", "p50_ms",
        "p99_ms", "waiting", "alert_open",
    }
)  # fmt: skip


def _number(fields: dict[str, Any], name: str) -> float:
    """A number of a report; zero where there is none, for devices say what they like."""
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 1e15:
        return 0.0
    return float(value)


def number_of(fields: dict[str, Any], name: str) -> float | None:
    """A number of a report; None where there is none."""
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 1e15:
        return None
    return float(value)


def _is_small(value: Any) -> bool:
    return len(json.dumps(value)) <= 2_000
