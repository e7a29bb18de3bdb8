"""Drops of judged clicks: a folder of CSV files by month, whole or not there."""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from adclick.schema.errors import ConfigError
from adclick.stream.events import Event, iso_time


class DropWriter:
    """Writes clicks with their features into `<root>/<YYYY-MM>/clicks.csv`; the root appears at the end, whole.

    Attributes:
        rows: By month, how many clicks were written.
    """

    def __init__(
        self,
        root: Path,
        *,
        identifier: tuple[str | None, str | None],
        label: tuple[str, str],
        columns: Mapping[str, str],
        features: Sequence[str],
        replace: bool = False,
    ) -> None:
        """Makes the folder that becomes the root.

        Args:
            root: The data root.
            identifier: The headers of the columns for the click's id and time, None where there is none.
            label: The label's name and header.
            columns: Of other columns that clicks bring, the header by name.
            features: The features of the stream.
            replace: Whether a root that is there is replaced.

        Raises:
            ConfigError: The root holds something and is not to be replaced.
        """
        if root.exists() and not replace and (not root.is_dir() or any(root.iterdir())):
            raise ConfigError(f"{root}: is there already", "Give --replace to write it anew, or another data.root.")
        self._root = root
        self._folder = root.with_name(f"{root.name}.{os.getpid()}.partial")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._ids = identifier
        self._label_header = label[1]
        self._columns = tuple(name for name in columns if name != label[0])
        self._features = tuple(features)
        self._header = [
            *(name for name in identifier if name is not None),
            self._label_header,
            *(columns[name] for name in self._columns),
            *self._features,
        ]
        self._open: dict[str, Any] = {}
        self._writers: dict[str, Any] = {}
        self.rows: Counter[str] = Counter()

    def write(self, event: Event, label: str, features: Mapping[str, float]) -> None:
        """Writes a click; what it lacks is an empty cell."""
        time = iso_time(event.time)
        month = time[:7]
        writer = self._writers.get(month)
        if writer is None:
            writer = self._start(month)
        row: list[object] = [] if self._ids[0] is None else [event.id]
        if self._ids[1] is not None:
            row.append(time)
        row.append(label)
        get = event.fields.get
        row += [get(name, "") for name in self._columns]
        value = features.get
        row += [value(name, "") for name in self._features]
        writer.writerow(row)
        self.rows[month] += 1

    def _start(self, month: str) -> Any:
        folder = self._folder / month
        folder.mkdir()
        stream = (folder / "clicks.csv").open("w", encoding="utf-8", newline="", buffering=1 << 20)
        self._open[month] = stream
        self._writers[month] = writer = csv.writer(stream)
        writer.writerow(self._header)
        return writer

    def finish(self) -> None:
        """Puts the drops in their place."""
        self._close()
        if self._root.exists():
            old = self._root.with_name(f"{self._root.name}.{os.getpid()}.old")
            self._root.rename(old)
            self._folder.rename(self._root)
            shutil.rmtree(old)
        else:
            self._folder.rename(self._root)

    def _close(self) -> None:
        for stream in self._open.values():
            stream.close()
        self._open.clear()

    def __enter__(self) -> DropWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        shutil.rmtree(self._folder, ignore_errors=True)
