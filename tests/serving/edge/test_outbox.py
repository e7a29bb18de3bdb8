"""The outbox: bounded, in order, nothing twice by key, and whole after anything."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adclick.serving.edge.outbox import ALERT, PLAY, Outbox
from benchmarks.edge_faults import small_disk


def plays_of(creative: str, hour: int, size: int) -> tuple[str, int, dict[str, str], int, float]:
    return creative, hour, {"padding": "x" * size}, 1, 0.5


def drained(outbox: Outbox, receiver: str) -> list[tuple[str, str]]:
    messages = []
    while (message := outbox.next_for(receiver)) is not None:
        messages.append((message.kind, message.key))
        outbox.taken(receiver, message.number)
    return messages


def test_each_receiver_gets_alerts_first_and_each_key_once(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db", ["webhook", "mqtt"])
    outbox.add_plays([plays_of("a", 1, 0)])
    assert outbox.close_hours(2) == 1 and outbox.close_hours(2) == 0
    for _ in range(2):
        outbox.add_alert("k-1", b"{}", {"id": "k"})
    outbox.add_alert("k-2", b"{}", None)
    assert [kind for kind, _ in drained(outbox, "webhook")] == [ALERT, ALERT, PLAY]
    assert outbox.waiting() == {ALERT: 2, PLAY: 1}
    outbox.close()
    again = Outbox(tmp_path / "outbox.db", ["webhook", "mqtt"])
    assert [key for kind, key in drained(again, "mqtt") if kind == ALERT] == ["k-1", "k-2"]
    assert again.waiting() == {ALERT: 0, PLAY: 0} and again.size() == 0
    assert again.recall("alert") is None
    again.close()


def test_plays_add_up_by_creative_and_hour_and_an_hour_that_comes_again_has_another_key(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db", ["webhook"])
    for _ in range(3):
        outbox.add_plays([plays_of("a", 5, 0), plays_of("b", 5, 0)])
    outbox.close_hours(6)
    outbox.add_plays([plays_of("a", 5, 0)])
    outbox.close_hours(6)
    bodies = []
    while (message := outbox.next_for("webhook")) is not None:
        bodies.append(json.loads(message.body))
        outbox.taken("webhook", message.number)
    assert [(body["creative"], body["frames"], body["seconds"]) for body in bodies] == [
        ("a", 3, 1.5),
        ("b", 3, 1.5),
        ("a", 1, 0.5),
    ]
    assert len({body["key"] for body in bodies}) == 3 and bodies[0]["hour"] == "1970-01-01T05:00:00Z"
    outbox.close()


def test_who_is_no_longer_named_holds_nothing_up(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db", ["webhook", "mqtt"])
    outbox.add_alert("k-1", b"{}", None)
    outbox.taken("webhook", 1)
    outbox.close()
    again = Outbox(tmp_path / "outbox.db", ["webhook"])
    assert again.waiting()[ALERT] == 0
    again.close()


def test_a_damaged_file_is_moved_aside(tmp_path: Path) -> None:
    (tmp_path / "outbox.db").write_bytes(b"no database " * 1000)
    outbox = Outbox(tmp_path / "outbox.db", ["webhook"])
    assert outbox.moved_aside is not None and outbox.moved_aside.read_bytes().startswith(b"no database")
    outbox.add_alert("k-1", b"{}", None)
    assert outbox.waiting()[ALERT] == 1
    outbox.close()


def test_a_full_disk_loses_nothing_that_was_there(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db", ["webhook"])
    outbox.add_alert("first", b"{}", {"id": "first"})
    # SQLite answers as it does on a full disk: the database may take no further page.
    pages = outbox._database.execute("PRAGMA page_count").fetchone()[0]
    outbox._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        outbox.add_alert("second", b"x" * 100_000, {"id": "second"})
    assert (outbox.recall("alert"), outbox.size()) == ({"id": "first"}, 2)
    outbox._database.execute("PRAGMA max_page_count = 1000000")
    outbox.add_alert("second", b"x" * 100_000, {"id": "second"})
    assert [key for _, key in drained(outbox, "webhook")] == ["first", "second"]
    outbox.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 400)), max_size=30), st.integers(200, 2000))
def test_its_bound_holds_and_no_alert_goes_while_a_play_is_left(messages: list[tuple[bool, int]], maximum: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(Path(folder) / "outbox.db", ["webhook"], maximum)
        dropped_alerts = 0
        for number, (is_alert, size) in enumerate(messages):
            if is_alert:
                outbox.add_alert(f"k{number}", b"x" * size, None)
            else:
                outbox.add_plays([plays_of("a", number, size)])
                outbox.close_hours(-1)
            waiting, counters = outbox.waiting(), outbox.counters()
            assert outbox.size() <= maximum
            if counters["dropped_alert"] > dropped_alerts:
                dropped_alerts = counters["dropped_alert"]
                assert waiting[PLAY] == 0
            told = sum(waiting.values()) + sum(counters.values())
            assert told == number + 1
        numbers = [int(key[1:]) for kind, key in drained(outbox, "webhook") if kind == ALERT]
        alerts = [number for number, (is_alert, _) in enumerate(messages) if is_alert]
        # The newest are left, in their order.
        assert numbers == alerts[len(alerts) - len(numbers) :]
        assert outbox.size() == 0
        outbox.close()


def test_it_opens_on_a_full_disk_and_takes_alerts(tmp_path: Path) -> None:
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(tmp_path / "disk"))
        except PermissionError as error:
            pytest.skip(str(error))

        def fill() -> None:
            with open(disk / "filler", "wb", buffering=0) as filler, suppress(OSError):
                while filler.write(bytes(4096)):
                    pass

        path = disk / "state/outbox.db"
        for life in range(3):
            Outbox(path, ["a"]).close()
            fill()
            outbox = Outbox(path, ["a"])
            outbox.add_alert(f"full-{life}", b"{}", None)
            outbox.close()
            (disk / "filler").unlink()
        outbox = Outbox(path, ["a"])
        assert [message.key for message in outbox.batch_for("a", 10)] == ["full-0", "full-1", "full-2"]
        outbox.close()
        # Where there is little room from the first none is kept of it.
        (disk / "other").mkdir()
        (disk / "filler").write_bytes(bytes(1 << 20))
        Outbox(disk / "other/outbox.db", ["a"]).close()
        assert not (disk / "other/outbox.db.reserve").exists()
