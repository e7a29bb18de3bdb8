"""The runtime in C watches: the alerts of the Python runtime on the same frames, each kept through crashes."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adclick.pipeline.edge.devices import run_devices
from adclick.serving.edge.outbox import Outbox
from adclick.serving.edge.watch import outbox_path
from benchmarks.edge_faults import small_disk
from tests.serving.edge.pictures import encoded, picture

DEADLINE = 120.0
LIVES = 12
#: What is another in each life, and the similarity, which may differ a little.
PASSING = ("id", "key", "time", "first_time", "similarity")


class Agent:
    """The agent as a process, and its log as it is written."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.log: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            # What was cut off by a kill was told to nobody.
            if line.endswith(b"\n"):
                self.log.append(json.loads(line))

    def events(self, name: str) -> list[dict[str, Any]]:
        return [entry for entry in self.log if entry["event"] == name]

    def until(self, condition: Callable[[], Any]) -> None:
        ends = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < ends and self.process.poll() is None, self.log
            time.sleep(0.01)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return code


@pytest.fixture
def watch(agent: Path, bundle_file: Path, keys: tuple[Path, Path], tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    running: list[Agent] = []

    def run(screen: Path, *arguments: str) -> Agent:
        screen.mkdir(exist_ok=True)
        command = [str(agent), "watch", "--bundle", str(bundle_file), "--public-key", str(keys[1]), "--frames", "3"]
        command += ["--source", str(screen), "--state", str(tmp_path / "state"), "--device", "screen 1", *arguments]
        running.append(Agent(command))
        return running[-1]

    yield run
    for each in running:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate()


def show(folder: Path, *contents: bytes) -> None:
    """Puts files into a folder, each whole at once, in the order of their names."""
    folder.mkdir(exist_ok=True)
    for content in contents:
        number = len(list(folder.iterdir()))
        (folder / ".next").write_bytes(content)
        (folder / ".next").rename(folder / f"{number:04}.jpg")


def frame(seed: int, form: str = "JPEG") -> bytes:
    return encoded(picture(seed), form)


def reports(folder: Path) -> dict[str, dict[str, Any]]:
    """What lies there to be collected, by key."""
    return {file.stem: json.loads(file.read_text()) for file in folder.glob("screen_1/*-[12].json")}


def test_it_raises_the_alerts_of_the_python_runtime(watch: Any, start: Any, tmp_path: Path) -> None:
    screen = tmp_path / "screen"
    seeds = [0, 0, 99, 99, 0, 1, 1, 99, 1, 0, 0, 99, 0, 0, 0, 2, 3, 2, 0, 0, 0, 98, 97]
    show(screen, *(frame(seed, "PNG" if number % 3 == 0 else "JPEG") for number, seed in enumerate(seeds)))
    show(screen, b"noise", frame(99)[:900], b"", frame(96), frame(0), frame(0), frame(0))
    (screen / ".unfinished.jpg").write_bytes(frame(99))
    (screen / "folder").mkdir()

    arguments = ["--source", str(screen), "--once", "--reports-folder"]
    python = start(
        *("watch", "--frames", "3", "--device", "screen 1", "--state", str(tmp_path / "its-state")),
        *(*arguments, str(tmp_path / "its-reports")),
    )
    output, errors = python.communicate(timeout=DEADLINE)
    assert python.returncode == 0, errors.decode()
    agent = watch(screen, *arguments[2:], str(tmp_path / "reports"))
    assert agent.wait() == 0

    def told(log: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[float], dict[str, int]]:
        alerts = [entry for entry in log if entry["event"] == "alert"]
        plain = [{name: value for name, value in alert.items() if name not in PASSING} for alert in alerts]
        (watching,) = (entry for entry in log if entry["event"] == "watching")
        return plain, [alert["similarity"] for alert in alerts], watching["frames"]

    its_log = list(map(json.loads, output.splitlines()))
    alerts, similarities, frames = told(agent.log)
    its_alerts, its_similarities, its_frames = told(its_log)
    assert alerts == its_alerts and similarities == pytest.approx(its_similarities, abs=1e-3)
    assert frames == its_frames and frames["broken"] == 3
    assert [(alert["kind"], alert["state"]) for alert in alerts] == [
        (kind, state) for kind in ("forbidden", "expired", "unknown") for state in ("open", "closed")
    ]
    # And they are left to be collected as that one leaves them, field by field.
    left, its_left = reports(tmp_path / "reports"), reports(tmp_path / "its-reports")
    assert len(left) == len(its_left) == 6
    assert list(left) != list(its_left) and {tuple(each) for each in left.values()} == {
        tuple(each) for each in its_left.values()
    }
    assert {key: (report["key"], report["type"]) for key, report in left.items()} == {
        key: (key, "alert") for key in left
    }
    assert left.keys() == {alert["key"] for alert in agent.events("alert")}
    # So are its heartbeats, and its proofs of play add up to the same.
    heartbeat, its_heartbeat = (heartbeat_of(tmp_path / name) for name in ("reports", "its-reports"))
    assert heartbeat.keys() == its_heartbeat.keys() and heartbeat["sequence"] == 2
    for name in ("frames", "recognised", "alert_open", "bundle_version", "bundle_sha256", "runtime"):
        assert heartbeat[name] == its_heartbeat[name], name
    assert heartbeat["similarity_sum"] == pytest.approx(its_heartbeat["similarity_sum"], abs=0.02)
    assert heartbeat["memory_bytes"] > 1 << 20 and heartbeat["disk_free_bytes"] > 0
    plays, its_plays = plays_of(tmp_path / "state"), its_plays_of(tmp_path / "its-state")
    assert {tuple(sorted(play)) for play in plays} == {tuple(sorted(play)) for play in its_plays}
    assert (frames_of(plays), frames_of(plays)["a"]) == (frames_of(its_plays), frames["approved"])


def heartbeat_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "screen_1/heartbeat.json").read_text()))


def plays_of(state: Path) -> list[dict[str, Any]]:
    """The proofs of play that the agent has not left yet."""
    return list(json.loads((state / "plays.json").read_text()))


def its_plays_of(state: Path) -> list[dict[str, Any]]:
    """Those of the Python runtime."""
    outbox = Outbox(outbox_path(state), ["test"])
    outbox.close_hours(0)
    plays = [json.loads(message.body) for message in outbox.batch_for("test", 1000) if message.kind == "play"]
    outbox.close()
    return plays


def frames_of(plays: list[dict[str, Any]]) -> dict[str, int]:
    """Frames by creative; the hour may have turned meanwhile."""
    frames: dict[str, int] = {}
    for play in plays:
        frames[play["creative"]] = frames.get(play["creative"], 0) + play["frames"]
    return frames


def test_proofs_of_play_go_on_after_a_restart_and_are_left_when_their_hour_is_over(watch: Any, tmp_path: Path) -> None:
    folder, state = tmp_path / "reports", tmp_path / "state"
    for life in range(2):
        show(tmp_path / f"screen{life}", *[frame(0)] * 4)
        assert watch(tmp_path / f"screen{life}", "--once", "--reports-folder", str(folder)).wait() == 0
    plays = plays_of(state)
    assert frames_of(plays) == {"a": 8} and not list(folder.rglob("*play*"))
    for play in plays:
        assert 0 < play["seconds"] < DEADLINE
        play["hour"] = "2026-01-02T03:00:00Z"
    (state / "plays.json").write_text(json.dumps(plays))
    assert watch(tmp_path / "empty", "--once", "--reports-folder", str(folder)).wait() == 0
    left = [json.loads((folder / f"screen_1/{play['key']}.json").read_text()) for play in plays]
    assert plays_of(state) == [] and frames_of(left) == {"a": 8}
    assert {(play["type"], play["hour"], play["device"]) for play in left} == {("play", plays[0]["hour"], "screen 1")}
    # A disk or a person that damaged them takes nothing else with them.
    (state / "plays.json").write_text('[{"key": 1}]')
    again = watch(tmp_path / "screen0", "--once")
    assert again.wait() == 0 and again.events("state_damaged") and frames_of(plays_of(state)) == {"a": 4}


def test_what_it_left_is_listed_with_the_devices(
    watch: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(tmp_path / "screen", *[frame(99)] * 3)
    assert watch(tmp_path / "screen", "--once", "--reports-folder", str(tmp_path / "reports")).wait() == 0
    run_devices(tmp_path / "reports", gateway=None, api_key=None, silent_minutes=15.0, as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["device"], row["alerts"], row["alert_open"], row["bundle_version"]) == ("screen 1", 1, True, 7)
    assert (row["unknown_share"], row["silent"]) == (1.0, False)


def test_no_alert_that_was_told_is_lost_by_a_kill(watch: Any, tmp_path: Path) -> None:
    chance, folder = random.Random(15), tmp_path / "reports"
    told: dict[str, str] = {}
    was_open = False
    for life in range(LIVES):
        agent = watch(tmp_path / f"screen{life}", "--reports-folder", str(folder))
        agent.until(lambda agent=agent: agent.events("started"))
        assert agent.events("started")[0]["alert_open"] or not was_open
        enough = chance.randrange(1, 4)
        show(tmp_path / f"screen{life}", *[frame(0)] * 3, *[frame(99)] * 3, *[frame(0)] * 3, *[frame(99)] * 3)
        agent.until(lambda agent=agent, enough=enough: len(agent.events("alert")) >= enough)
        time.sleep(chance.uniform(0, 0.02))
        agent.end(signal.SIGKILL)
        alerts = agent.events("alert")
        assert all(alert["kept"] for alert in alerts)
        told |= {alert["key"]: alert["state"] for alert in alerts}
        was_open = alerts[-1]["state"] == "open" and len(alerts) == 3
    last = watch(tmp_path / "last", "--reports-folder", str(folder))
    last.until(lambda: last.events("started"))
    assert last.end() == 0
    left = reports(folder)
    assert told.keys() <= left.keys() and len(told) > LIVES
    # Whatever was opened was closed but for the last: no life opened a second one beside one that was open.
    opened = {report["id"] for report in left.values() if report["state"] == "open"}
    closed = {report["id"] for report in left.values() if report["state"] == "closed"}
    assert closed <= opened and len(opened - closed) == int(last.events("started")[0]["alert_open"])
    assert not list(folder.rglob("*.partial"))


def test_what_cannot_be_left_waits_and_comes_later(watch: Any, tmp_path: Path) -> None:
    folder, screen = tmp_path / "reports", tmp_path / "screen"
    folder.write_text("in the way")
    agent = watch(screen, "--reports-folder", str(folder))
    show(screen, *[frame(99)] * 3)
    agent.until(lambda: agent.events("not_written"))
    assert agent.events("alert")[0]["kept"] and agent.end() == 0
    assert agent.events("stopped")[0]["waiting"] == {"alert": 1}
    # Killed or not: the next life tells it again, and leaves it once there is room.
    again = watch(tmp_path / "empty", "--reports-folder", str(folder))
    again.until(lambda: again.events("started"))
    assert again.events("alert")[0]["key"] == agent.events("alert")[0]["key"]
    folder.unlink()
    again.until(lambda: len(reports(folder)) == 1)
    assert again.end() == 0 and again.events("stopped")[0]["waiting"] == {"alert": 0}


def test_a_full_disk_loses_no_alert(watch: Any, tmp_path: Path) -> None:
    screen = tmp_path / "screen"
    with contextlib.ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(tmp_path / "disk"))
        except PermissionError as error:
            pytest.skip(str(error))

        def fill() -> None:
            with open(disk / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
                while filler.write(bytes(4096)):
                    pass

        (disk / "state").mkdir()
        fill()
        agent = watch(screen, "--state", str(disk / "state"), "--reports-folder", str(disk / "reports"))
        for count in (2, 4):
            show(screen, *[frame(99)] * 3, *[frame(0)] * 3)
            agent.until(lambda count=count: len(agent.events("alert")) == count)
            (disk / "filler").unlink()
            agent.until(lambda count=count: len(reports(disk / "reports")) == count)
            fill()
        assert agent.end() == 0 and agent.events("not_written")
        assert not agent.events("alert")[0]["kept"]
        assert {alert["key"] for alert in agent.events("alert")} == reports(disk / "reports").keys()


def test_a_picture_that_is_still_written_is_waited_for(watch: Any, tmp_path: Path) -> None:
    screen = tmp_path / "screen"
    agent = watch(screen)
    agent.until(lambda: agent.events("started"))
    content = frame(0)
    with open(screen / "slow.jpg", "wb") as file:
        for place in range(0, len(content), 1 + len(content) // 20):
            file.write(content[place : place + 1 + len(content) // 20])
            file.flush()
            time.sleep(0.01)
    show(screen, frame(1))
    (screen / b"\xff.jpg".decode(errors="surrogateescape")).write_bytes(b"noise")
    agent.until(lambda: agent.events("broken_frame"))
    assert agent.end() == 0
    frames = agent.events("watching")[-1]["frames"]
    assert (frames["approved"], frames["forbidden"]) == (1, 1), agent.log


def test_a_damaged_state_is_moved_aside_and_a_wrong_command_ends(watch: Any, agent: Path, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/alerts.json").write_text('{"open": null, "untold": [1]}')
    running = watch(tmp_path / "screen", "--once")
    assert running.wait() == 0
    assert Path(running.events("state_damaged")[0]["moved_to"]).read_text() == '{"open": null, "untold": [1]}'
    assert watch(tmp_path / "screen", "--source", str(tmp_path / "none")).wait() == 2
    for wrong in (
        ["--frames", "0"],
        ["--frames", "x"],
        ["--hold", "nan"],
        ["--report", "-1"],
        ["--state", "/dev/null/x"],
        ["more"],
    ):
        assert watch(tmp_path / "screen", *wrong).wait() == 2, wrong
