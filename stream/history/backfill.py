"""The backfill: past events through the operator, in order, and each click with what was known at its instant."""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

from adclick.schema.errors import ConfigError, DataRefused
from adclick.schema.feature_table import FeatureTable
from adclick.stream.columns import click_reader, impression_reader, model_columns
from adclick.stream.events import Event, RejectedEvent
from adclick.stream.features.operator import FeatureOperator
from adclick.stream.history.drop_writer import DropWriter
from adclick.stream.history.event_files import EventFiles, find_event_files
from adclick.stream.history.verdicts import VerdictColumns, Verdicts, read_verdict_files, read_verdict_messages
from adclick.stream.ordering import EventOrder
from adclick.stream.settings import StreamSettings
from adclick.stream.state.rocksdb import RocksState

_BATCH = 2_000
_EVENTS_PER_COMMIT = 50_000
#: What stands in the store of a history that was gone through.
HISTORY_POSITION = b"history"


@dataclass(frozen=True)
class BackfillReport:
    """What came of a backfill.

    Attributes:
        events: By kind, how many were read, rejected ones included.
        rejected: By reason's field, how many were no events.
        rejected_file: Where these are, with file, line and reason; None if there are none.
        late: By kind, how many came too late: their clicks are written without features of the stream.
        rows: By month, how many clicks were written.
        unlabelled: Clicks without a label.
        positives: Clicks whose label is one of the positive texts.
        verdicts: What was read of these; None if the clicks hold the label.
        unmatched_verdicts: Verdicts on clicks that are not there.
        saturated: By feature, how many clicks had more distinct values than are told apart.
        seconds: How long it took.
    """

    root: Path
    events: Mapping[str, int]
    rejected: Mapping[str, int]
    rejected_file: Path | None
    late: Mapping[str, int]
    rows: Mapping[str, int]
    unlabelled: int
    unlabelled_are: str
    positives: int
    verdicts: Verdicts | None
    unmatched_verdicts: int
    saturated: Mapping[str, int]
    seconds: float

    def describe(self) -> str:
        """What came of it, in lines for a person."""
        total, written = sum(self.events.values()), sum(self.rows.values())
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in self.events.items())
        months = ", ".join(f"{month}: {number:,}" for month, number in self.rows.items())
        lines = [
            f"{total:,} events ({kinds}) in {self.seconds:.1f} s, {total / max(self.seconds, 1e-9):,.0f} a second",
            f"{written:,} clicks in {len(self.rows)} month{'s' * (len(self.rows) != 1)} ({months}), "
            f"{self.positives / max(written, 1):.2%} of them positive: {self.root}",
        ]
        if self.unlabelled:
            lines.append(f"{self.unlabelled:,} clicks without a label: {self.unlabelled_are}")
        if self.verdicts is not None:
            lines.append(
                f"{self.verdicts.number:,} verdicts, {self.verdicts.changed:,} of which overrule an earlier one; "
                f"{self.unmatched_verdicts:,} on clicks that are not there"
            )
            lines += self.verdicts.faults
        for kind, number in self.late.items():
            if number:
                lines.append(
                    f"{number:,} late {kind} ({number / self.events[kind]:.2%}): they do not count in features"
                    + (", and have none; a larger stream.max_out_of_orderness waits longer" if kind == "clicks" else "")
                )
        if self.rejected_file is not None:
            what = ", ".join(f"{reason}: {number:,}" for reason, number in self.rejected.items())
            lines.append(f"{sum(self.rejected.values()):,} rejected ({what}): {self.rejected_file}")
        for name, number in self.saturated.items():
            lines.append(f"{name}: {number:,} clicks reached max_distinct, beyond which values are not told apart")
        return "\n".join(lines)


def run_backfill(
    stream: StreamSettings,
    features: FeatureTable,
    *,
    root: Path,
    work: Path,
    missing: Collection[str] = ("",),
    max_rejected_share: float = 0.01,
    state: Path | None = None,
    replace: bool = False,
    progress: Callable[[int], None] = lambda number: None,
) -> BackfillReport:
    """Goes through past events and writes the drops that a run trains on.

    Args:
        stream: The events, their features, and where the files are.
        features: The columns of the model.
        root: The data root to write, a folder per month.
        work: A folder for what is rejected, and for the state while it is computed.
        missing: Texts that mean a missing value in any column.
        max_rejected_share: A larger share of rejected events refuses the history.
        state: Where the state is left for the stream to go on from; nowhere if None.
        replace: Whether a root, or a state, that is there is replaced.
        progress: Told now and then how many events were read.

    Raises:
        ConfigError: No files are named or found, or the root is there already.
        DataRefused: Too many events are rejected, a file is damaged, or no click has a label.
    """
    started = time.perf_counter()
    history = stream.history
    if history.clicks is None:
        raise ConfigError(
            "stream.history.clicks: is missing", "Name the files of clicks in the config, or by --clicks."
        )
    sources = {"clicks": EventFiles(click_reader(stream, features, missing), _files(history.clicks, "clicks"))}
    impressions = impression_reader(stream, features, missing)
    if impressions is not None:
        if history.impressions is None:
            raise ConfigError(
                "stream.history.impressions: is missing", "Name the files of impressions, or declare no impressions."
            )
        sources["impressions"] = EventFiles(impressions, _files(history.impressions, "impressions"))
    verdicts = verdicts_of(stream, features)
    # A feature table looks its label up anew each time that it is asked.
    label_name = features.label_name
    label = features.root[label_name]
    positive = set(getattr(label, "positive", ()))
    negative = getattr(label, "negative", ("0",))[0]
    work.mkdir(parents=True, exist_ok=True)
    order = EventOrder(stream.disorder, [(kind, 0) for kind in sources])
    columns = {name: features.source_of(name) for name in model_columns(stream, features)}
    late: Counter[str] = Counter(dict.fromkeys(sources, 0))
    unlabelled = positives = matched = 0

    def source(name: str | None) -> str | None:
        return None if name is None else features.source_of(name)

    with (
        tempfile.TemporaryDirectory(prefix="state-", dir=work) as temporary,
        _rejects(work / "rejected-events.jsonl") as rejects,
        DropWriter(
            root,
            identifier=(source(features.identifier_name), source(features.timestamp_name)),
            label=(features.label_name, features.source_of(features.label_name)),
            columns=columns,
            features=[name for name in stream.features if name in features.used],
            replace=replace,
        ) as drops,
        _without_garbage_collection(),
    ):
        kept = Path(temporary) / "state"
        store = RocksState(kept)
        operator = FeatureOperator(stream, store)

        def write(event: Event, found: Mapping[str, float]) -> None:
            nonlocal unlabelled, positives, matched
            if verdicts is None:
                text = event.fields.get(label_name)
            else:
                text = verdicts.labels.get(event.id)
                matched += text is not None
            if text is None:
                unlabelled += 1
                if history.unlabelled == "left out":
                    return
                text = negative
            positives += text in positive
            drops.write(event, str(text), found)

        def process(events: list[Event]) -> None:
            for event in events:
                found = operator.process(event)
                if found is not None:
                    write(event, found)

        since_commit = 0
        for batch in _in_step(sources, order):
            for read in batch:
                if isinstance(read, RejectedEvent):
                    rejects.add(read, sources[read.kind])
                elif not order.add(read):
                    late[read.kind] += 1
                    if read.kind == "clicks":
                        write(read, {})
            process(order.ready())
            since_commit += len(batch)
            if since_commit >= _EVENTS_PER_COMMIT:
                operator.commit(HISTORY_POSITION)
                since_commit = 0
                progress(sum(files.number for files in sources.values()))
        process(order.flush())
        operator.commit(HISTORY_POSITION)
        store.close()
        numbers = {kind: files.number for kind, files in sources.items()}
        total, bad = sum(numbers.values()), sum(rejects.reasons.values())
        if bad > max_rejected_share * total:
            reason, number = rejects.reasons.most_common(1)[0]
            raise DataRefused(
                f"{bad:,} of {total:,} events are rejected, more than {max_rejected_share:.1%}; {number:,} of them: "
                f"{reason}. They are in {rejects.path}",
                "Correct the files or the config's stream.events, or raise ingestion.max_quarantine_share.",
            )
        if not drops.rows:
            raise DataRefused(
                f"none of {numbers['clicks']:,} clicks has a label",
                f"Name verdicts that have the clicks' ids, or give the clicks the column {features.label_name}.",
            )
        if state is not None:
            _keep_state(kept, state, replace)
        drops.finish()
    return BackfillReport(
        root=root,
        events=numbers,
        rejected=dict(rejects.reasons.most_common()),
        rejected_file=rejects.path if bad else None,
        late=late,
        rows=dict(sorted(drops.rows.items())),
        unlabelled=unlabelled,
        unlabelled_are="left out" if history.unlabelled == "left out" else "taken for negatives",
        positives=positives,
        verdicts=verdicts,
        unmatched_verdicts=0 if verdicts is None else len(verdicts.labels) - matched,
        saturated=dict(operator.saturated),
        seconds=time.perf_counter() - started,
    )


def _files(where: str, kind: str) -> list[Path]:
    return find_event_files(where, f"stream.history.{kind}")


def verdicts_of(stream: StreamSettings, features: FeatureTable) -> Verdicts | None:
    """The verdicts of `stream.history`, over them those of the topic; None where clicks hold their labels themselves.

    Raises:
        ConfigError: There are no such files, no such topic, or clicks have no id.
        DataRefused: A row names no click or has no label; names file and line.
        BrokerUnreachable: The broker of the topic does not answer.
    """
    if not stream.has_verdicts:
        return None
    history, topic = stream.history, stream.topics.verdicts
    column = history.verdict_id or stream.events.clicks.id
    if column is None:
        raise ConfigError("stream.events.clicks.id: is null", "Verdicts name clicks by their id: name its column.")
    columns = VerdictColumns(column, features.source_of(features.label_name))
    verdicts = Verdicts()
    if history.verdicts is not None:
        read_verdict_files(verdicts, _files(history.verdicts, "verdicts"), columns)
    if topic is not None:
        # Kafka's client: most histories are of files alone.
        from adclick.stream.stages.reading import messages_until_now

        read_verdict_messages(verdicts, messages_until_now(stream.kafka, {topic.name}, "verdicts"), columns)
    return verdicts


def _in_step(sources: Mapping[str, EventFiles], order: EventOrder) -> Iterator[list[Event | RejectedEvent]]:
    """The events in batches, always of the kind that is furthest behind, so that few wait for the other."""
    reading = {kind: iter(files) for kind, files in sources.items()}
    newest = dict.fromkeys(sources, 0)
    while reading:
        kind = min(reading, key=lambda kind: newest[kind])
        batch = list(islice(reading[kind], _BATCH))
        if not batch:
            del reading[kind]
            order.set_idle((kind, 0))
            continue
        newest[kind] = max((read.time for read in batch if isinstance(read, Event)), default=newest[kind])
        yield batch


def _keep_state(kept: Path, state: Path, replace: bool) -> None:
    import shutil

    if state.exists():
        if not replace:
            raise ConfigError(f"{state}: is there already", "Give --replace to write it anew, or another folder.")
        shutil.rmtree(state)
    state.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(kept, state)


class _Rejects:
    """What was no event, as JSON lines; by reason, how often."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reasons: Counter[str] = Counter()
        path.unlink(missing_ok=True)
        self._stream: TextIO | None = None

    def add(self, rejected: RejectedEvent, files: EventFiles) -> None:
        self._stream = self._stream or self.path.open("w", encoding="utf-8")
        # The values differ from one event to the next: what is counted is the field and what is wrong with it.
        self.reasons[rejected.reason.partition(": ")[0]] += 1
        file, number = files.rejected_at.pop(rejected.offset)
        line = {
            "file": str(file),
            "line": number,
            "kind": rejected.kind,
            "reason": rejected.reason,
            "payload": rejected.payload.decode("utf-8", "backslashreplace").rstrip("\r\n"),
        }
        self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


@contextmanager
def _rejects(path: Path) -> Iterator[_Rejects]:
    rejects = _Rejects(path)
    try:
        yield rejects
    finally:
        rejects.close()


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Python's search for cycles goes through all states again and again, and there are none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
