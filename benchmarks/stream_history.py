"""How fast past events go through the operator, and what its state takes.

The backfill runs as a user runs it, in a process of its own; beside it the plainest program that could be written for
one feature: a dictionary of counters in a loop. The state is set against the limit of 1 GB at 1,000,000 live keys.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.measure import Result, more, python_module, report, share, timed_process

#: Counts and distinct counts over a minute and an hour by address, device and site, and the time to click.
CONFIG = """
data: {root: drops}
features:
  click_id: {role: identifier}
  time: {role: timestamp}
  site: {role: categorical}
  is_fraud: {role: label}
stream:
  events:
    clicks: {id: click_id}
    impressions: {id: impression_id}
  history: {clicks: clicks.jsonl, impressions: impressions.jsonl}
  features:
    clicks_1m_by_ip: {kind: count, by: [ip], window: 1m}
    clicks_1h_by_ip: {kind: count, by: [ip], window: 1h}
    devices_1h_by_ip: {kind: distinct, by: [ip], column: device, window: 1h}
    clicks_1h_by_device: {kind: count, by: [device], window: 1h}
    ips_1h_by_device: {kind: distinct, by: [device], column: ip, window: 1h}
    clicks_1m_by_site: {kind: count, by: [site], window: 1m}
    ips_1h_by_site: {kind: distinct, by: [site], column: ip, window: 1h}
    time_to_click: {kind: time_to_click}
"""
_START = datetime(2026, 10, 1, tzinfo=UTC)
_MUST, _LIMIT_BYTES = 20_000, 1_000_000_000


def write_events(folder: Path, events: int, seed: int = 1) -> None:
    """Writes half impressions, half clicks of them: users of unequal activity behind shared addresses, 20 a second."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG)
    pairs = events // 2
    user = (rng.random(pairs) ** 2 * pairs / 10).astype(int)
    shown = np.cumsum(rng.exponential(100_000, pairs)).astype(int)
    clicked = shown + rng.integers(300_000, 20_000_000, pairs)
    fraud = rng.random(pairs) < 0.1

    def fields(row: int, time: int) -> dict[str, Any]:
        moment = (_START + timedelta(microseconds=int(time))).isoformat()
        who = int(user[row])
        return {
            "time": moment,
            "ip": f"10.{who // 400}.{who // 2 % 200}.1",
            "device": f"d{who}",
            "site": f"s{who % 300}",
        }

    with (folder / "impressions.jsonl").open("w") as stream:
        for row in range(pairs):
            stream.write(json.dumps({"impression_id": f"i{row}", **fields(row, shown[row])}) + "\n")
    with (folder / "clicks.jsonl").open("w") as stream:
        for row in np.argsort(clicked, kind="stable").tolist():
            ids = {"click_id": f"c{row}", "impression_id": f"i{row}", "is_fraud": int(fraud[row])}
            stream.write(json.dumps({**ids, **fields(row, clicked[row])}) + "\n")


def backfill_speed(folder: Path, events: int) -> Iterator[Result]:
    """Events a second of `adclick stream backfill`, from the start of the process to its end."""
    write_events(folder, events)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    adclick = str(Path(sys.executable).with_name("adclick"))
    process = timed_process([adclick, "stream", "backfill", "--config", str(folder / "config.yaml"), "--quiet"])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(process.output)
    what = f"backfill of {events:,} events, eight features"
    yield more(f"{what}, by the clock", events / process.seconds, _MUST, "events/s", ">= 1")
    yield more(f"{what}, by processor time", events / processor, _MUST, "events/s", ">= 1")
    yield share(f"{what}, peak memory", process.peak_bytes, _LIMIT_BYTES, "bytes", "<= 1")


def state_memory(folder: Path, keys: int) -> Iterator[Result]:
    """The resident size of an operator with so many live keys, in a process of its own."""
    command = python_module("benchmarks.stream_history", "--only-state", str(folder), "--keys", str(keys))
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    yield share(f"operator with {found['keys']:,} live keys, resident", found["bytes"], _LIMIT_BYTES, "bytes", "<= 1")
    yield share(f"its state on disk, {found['keys']:,} live keys", found["disk"], _LIMIT_BYTES, "bytes", "")
    yield share("live keys left after the windows have passed, of all", found["left"], found["keys"], "keys", "<= 0.05")


def hold_state(folder: Path, keys: int) -> dict[str, int]:
    """Brings an operator to so many live keys and then lets them grow old.

    Returns:
        `keys` that were live, `bytes` resident then, `disk` bytes of the state then, and `left` keys at the end.
    """
    import gc

    import yaml

    from adclick.stream.events import Event
    from adclick.stream.features.operator import FeatureOperator
    from adclick.stream.settings import StreamSettings
    from adclick.stream.state.rocksdb import RocksState

    settings = StreamSettings.model_validate(yaml.safe_load(CONFIG)["stream"])
    store = RocksState(folder / "state")
    operator = FeatureOperator(settings, store)
    gc.disable()
    start = 1_790_000_000_000_000

    def count() -> int:
        live, after = 0, b""
        while found := store.scan(after, 10_000):
            live += sum(not key.startswith(b"\xff\xff") for key, _ in found)
            after = found[-1][0]
        return live

    # A device and an address of its own each, all within half an hour: no window passes.
    for n in range(keys // 2):
        time_of = start + n * 1_800_000_000 // (keys // 2)
        fields = {"ip": f"ip{n}", "device": f"d{n}", "site": f"s{n % 300}", "impression_id": f"i{n}"}
        operator.process(Event("clicks", f"c{n}", time_of, fields, 0, n))
        if n % 20_000 == 19_999:
            operator.commit(b"")
    operator.commit(b"")
    live = count()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    disk = sum(path.stat().st_size for path in (folder / "state").iterdir())
    for n in range(keys):
        fields = {"ip": "one", "device": "one", "site": "one", "impression_id": "none"}
        operator.process(Event("clicks", f"l{n}", start + 8_000_000_000 + n, fields, 0, n))
        if n % 10_000 == 9_999:
            operator.commit(b"")
    operator.commit(b"")
    left = count()
    store.close()
    return {"keys": live, "bytes": resident, "disk": disk, "left": left}


def main(
    events: Annotated[int, typer.Option(help="Past events.")] = 1_000_000,
    keys: Annotated[int, typer.Option(help="Live keys of the state.")] = 1_000_000,
    only_state: Annotated[Path | None, typer.Option(hidden=True)] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where the results go.")] = None,
) -> None:
    """Measure the backfill and the operator's state."""
    if only_state is not None:
        print(json.dumps(hold_state(only_state, keys)))
        return
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="adclick-stream-") as work:
        results = [*backfill_speed(Path(work) / "history", events), *state_memory(Path(work), keys)]
    report(f"Past events through the stream's operator, {time.perf_counter() - start:.0f} s", results, json_file)


if __name__ == "__main__":
    typer.run(main)
