"""What becomes of clicks where a process of the stream is killed (`kill -9`) in the middle of many.

The same events go through undisturbed, in one process, and again for each victim: the operator, a scorer beside it, the
broker. It is killed once a third of the clicks is judged, and started again at once.
Readers of committed messages must find each click once, equal to the undisturbed one: its probability to a millionth,
since the model's sums are rounded otherwise in batches of another size, and everything else to the bit. What is told as
a pause is the longest time from the kill on in which no click became readable, the start of the new process included.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from adclick.schema.errors import ConfigError
from adclick.stream.kafka.local_broker import LocalBroker, local_broker
from benchmarks.measure import Result, report, share
from benchmarks.stream_live import Load, fill, prepare

VICTIMS = ("operator", "scorer", "broker")
_PAUSE_SECONDS = 10.0
_WAIT_SECONDS = 900.0
#: What comes twice would come by then.
_SETTLE_SECONDS = 5.0


class JudgedClicks:
    """Reads the committed messages of `scored-clicks` as they come, in a thread.

    Attributes:
        by_id: Each click's judgement as JSON.
        moments: When each message was read, by `time.monotonic()`; more than clicks if some came twice.
    """

    def __init__(self, load: Load) -> None:
        self.by_id: dict[bytes, bytes] = {}
        self.moments: list[float] = []
        self._consumer = load.consumer("scored_clicks")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._done.is_set():
            for message in self._consumer.consume(1_000, 0.05):
                if message.error() is None:
                    self.by_id[message.key()] = message.value()
                    self.moments.append(time.monotonic())
        self._consumer.close()

    def wait(self, count: int) -> None:
        """Waits until so many clicks have come.

        Raises:
            RuntimeError: They do not come.
        """
        deadline = time.monotonic() + _WAIT_SECONDS
        while len(self.by_id) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(self.by_id)} of {count} clicks were judged in {_WAIT_SECONDS:.0f} s")
            time.sleep(0.01)

    def close(self) -> None:
        """Ends after what may still come."""
        time.sleep(_SETTLE_SECONDS)
        self._done.set()
        self._thread.join(60)

    def longest_pause(self, since: float) -> float:
        """The longest time from a moment on in which nothing came, in seconds."""
        moments = [since, *(moment for moment in self.moments if moment > since)]
        return max(later - earlier for earlier, later in pairwise(moments))


def undisturbed(load: Load, clicks: int) -> JudgedClicks:
    """All clicks, judged by one process."""
    judged = JudgedClicks(load)
    with load.running("--stages", "features,score"):
        judged.wait(clicks)
        judged.close()
    return judged


def disturbed(load: Load, victim: str, clicks: int, broker: LocalBroker) -> tuple[JudgedClicks, float]:
    """All clicks, judged while a victim is killed, and the longest pause from then on in seconds.

    Raises:
        RuntimeError: All were judged before it was killed.
    """
    judged = JudgedClicks(load)
    with ExitStack() as stack:
        kill, start_again = _beginning(load, victim, broker, stack)
        judged.wait(clicks // 3)
        kill()
        killed = time.monotonic()
        start_again()
        started = time.monotonic()
        judged.wait(clicks)
        judged.close()
    # By then all that had been committed before was read.
    if judged.moments[-1] <= started:
        raise RuntimeError(f"the {victim} was killed when all was done: give more --events")
    return judged, judged.longest_pause(killed)


def _beginning(
    load: Load, victim: str, broker: LocalBroker, stack: ExitStack
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Starts all stages; what kills the victim, and what starts it again."""
    alone = ("--stages", "features,score")
    scorer = ("--stages", "score", "--instance", "a")
    if victim == "broker":
        stack.enter_context(load.running(*alone))
        return broker.kill, broker.start
    if victim == "scorer":
        stack.enter_context(load.running("--stages", "features"))
    options = scorer if victim == "scorer" else alone
    process = stack.enter_context(load.running(*options))
    return process.kill, lambda: stack.enter_context(load.running(*options))


def differing(judged: JudgedClicks, expected: JudgedClicks) -> int:
    """How many clicks of both are judged differently."""
    count = 0
    for click, content in expected.by_id.items():
        found = judged.by_id.get(click, content)
        if found != content:
            ours, theirs = json.loads(found), json.loads(content)
            gap = abs(ours.pop("fraud_probability") - theirs.pop("fraud_probability"))
            count += not (gap <= 1e-6 and ours == theirs)
    return count


def main(
    project: Annotated[Path | None, typer.Option(help="A folder of an earlier run's traffic and model.")] = None,
    events: Annotated[int, typer.Option(min=1000, help="How many go through.")] = 200_000,
    victims: Annotated[str, typer.Option("--kill", help="What is killed, by comma.")] = ",".join(VICTIMS),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results there.")] = None,
) -> None:
    """Measures and reports; ends with 1 where a click is lost, comes twice or is judged differently."""
    chosen = victims.split(",")
    if unknown := set(chosen) - set(VICTIMS):
        raise ConfigError(f"--kill: {', '.join(sorted(unknown))}: is not run", f"Name some of {', '.join(VICTIMS)}.")
    is_wrong = False
    with tempfile.TemporaryDirectory(prefix="adclick-benchmark-") as work, ExitStack() as stack:
        folder = project or Path(work) / "project"
        if not (folder / "config.yaml").exists():
            prepare(folder)
        print(f"load of the machine before: {os.getloadavg()[0]:.1f}", file=sys.stderr)
        broker = stack.enter_context(local_broker(Path(work) / "kafka"))
        begin = time.time_ns() // 1000 - events * 1000

        def load_of(name: str) -> tuple[Load, int]:
            load = Load(folder, broker, f"{name}-{time.time_ns()}", threshold=0.5)
            return load, fill(load, folder, events, begin)

        expected = undisturbed(*load_of("undisturbed"))
        results: list[Result] = []
        for victim in chosen:
            load, clicks = load_of(victim)
            judged, pause = disturbed(load, victim, clicks, broker)
            lost = len(expected.by_id.keys() - judged.by_id.keys())
            twice = len(judged.moments) - len(judged.by_id)
            other = differing(judged, expected)
            is_wrong |= bool(lost or twice or other or len(judged.by_id) > clicks)
            print(f"{victim} killed: of {clicks:,} clicks {lost} lost, {twice} twice, {other} different", flush=True)
            results.append(
                share(f"{victim} killed: longest pause, against the limit", pause, _PAUSE_SECONDS, "s", "<= 1")
            )
        print(f"load of the machine after: {os.getloadavg()[0]:.1f}", file=sys.stderr)
        report(f"Killed in the middle of {events:,} events", results, json_file)
    if is_wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
