"""The plan says of every feature what it is, by which key, and what is kept."""

from __future__ import annotations

from adclick.stream.features.plan import plan
from adclick.stream.settings import StreamSettings


def test_every_feature_is_told_with_its_key_and_its_window() -> None:
    text = plan(
        StreamSettings.model_validate(
            {
                "events": {"impressions": {"id": "impression_id"}, "impression_window": "2h"},
                "max_out_of_orderness": "50ms",
                "features": {
                    "clicks": {"kind": "count", "by": ["ip", "device"], "window": "90s"},
                    "shown": {"kind": "count", "by": ["ip"], "of": "impressions", "window": "1h"},
                    "delay": {"kind": "time_to_click"},
                },
            }
        )
    )
    stages = {stage.split()[0]: stage for stage in text.split("\n\n")}
    assert set(stages) == {"order", "join", "by", "out"}
    assert "50ms" in stages["order"]
    assert "by impression_id" in stages["join"] and "kept for 2h" in stages["join"] and "delay:" in stages["join"]
    assert "ip, device: each value of them together" in text
    assert "clicks: number of clicks in the last 90s, exact at this end, in steps of 1.5s at the far one" in text
    assert "changed by impressions; removed when untouched for 62m" in text
    assert "with 3 features" in stages["out"]


def test_without_impressions_there_is_no_join() -> None:
    declared = {"features": {"clicks": {"kind": "count", "by": ["ip"], "window": "1m"}}}
    text = plan(StreamSettings.model_validate(declared))
    assert "join" not in text and "impressions" not in text
