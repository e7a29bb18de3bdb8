"""Small projects as nobody should deliver them: names, values, labels, times, encodings, files, months, limits."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st
from PIL import Image

#: What people, programs and languages call columns.
_NAMES = (
    *("class", "from", "is", "hour", "weekday", "None", "count", "value", "features", "label", "rows_in", "examples"),
    *("Ad_ID", "ad_id", "AD_ID", "user id", "a/b", "a.b", "a:b", "a,b", "a;b", 'quo"te', "it's", "back\\slash", "%s"),
    *(
        "{x}",
        "[v1]",
        "*",
        "ümläut",
        "広告",
        "😀",
        "é",
        "e\u0301",
        "١٢",
        "1",
        "2.5",
        "-1",
        "n" * 200,
        " blank",
        "blank ",
    ),
    *("click_time", "image", "image_status", "creative", "timestamp", "price", "click_probability", "signature_name"),
)
#: The share of names that are one of these; others are any text.
_KNOWN_NAME = 2 / 3
#: The share of what may be odd about a project that is, where it is not plain.
_ODD = 1 / 8
_CELLS = (
    *("", "null", "NaN", "-1", "0", "1", "inf", "-inf", "1e30", "1e-30", "1e400", "9" * 30, "0x1F", "1_000", "1,5"),
    *(
        "true",
        "a|b|c",
        "|",
        " ",
        "x" * 300,
        "line\nbreak",
        'quo"te',
        "'",
        "😀",
        "é",
        "\u202e",
        "\ufeff",
        "=1+1",
        "\x7f",
    ),
)
#: A true form of each: what stands for a click and what for none.
_LABELS = {
    "0/1": ("1", "0"),
    "1.0/0.0": ("1.0", "0.0"),
    "true/false": ("true", "False"),
    "yes/no": ("yes", "no"),
    "click/no_click": ("click", "no_click"),
    "letters": ("t", "f"),
    "counts": ("3", "0"),
    "words": ("bought", "left"),
    "missing": ("1", ""),
}
_ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252", "shift_jis")
_MONTHS = ("2026-08", "2026-09", "2026-10")
_ODD_MONTHS = ("2026_10", "2026-9", "202611", "2026-11 ", "2026-13", "__MACOSX", ".2026-07", "october")


@dataclass(frozen=True)
class Column:
    """A column beside the label, the time and the identifier."""

    name: str
    kind: str


@dataclass(frozen=True)
class Project:
    """A project that can be written.

    Attributes:
        seed: Seeds the cells.
        rows: Of each month.
        months: The folders of the drops; none: the files lie in the root itself.
        columns: Of every file.
        label: Its name and a key of `_LABELS`, or None.
        click_rate: The chance of a click.
        times: How time stands in the file, or None.
        identifier: Whether there is an identifier, and of what kind.
        delimiter, encoding, header, newline, packed: The dialect.
        broken_rows: The share of rows with a field too few.
        odd_cells: The share of cells that are odd.
        files: How many files a month has.
        litter: Files and folders that are no drops.
        changes: What is otherwise in the newest month.
        config: What is changed in the config that `init` writes, by dotted key.
    """

    seed: int
    rows: int
    months: tuple[str, ...]
    columns: tuple[Column, ...]
    label: tuple[str, str] | None
    click_rate: float
    times: str | None
    identifier: str | None
    delimiter: str
    encoding: str
    header: bool
    newline: str
    packed: bool
    broken_rows: float
    odd_cells: float
    files: int
    litter: bool
    changes: str
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> str:
        return "drops"

    def write(self, folder: Path) -> None:
        """Writes the drops below `folder`."""
        random = np.random.default_rng(self.seed)
        root = folder / self.data
        root.mkdir()
        for number, month in enumerate(self.months or ("",)):
            self._write_month(root / month, number, random)
        if self.litter:
            (root / "__MACOSX").mkdir(exist_ok=True)
            (root / "__MACOSX" / "._a.csv").write_bytes(b"\x00\x05\x16\x07")
            (root / ".hidden.csv").write_text("a,b\n1,2\n")
            (root / "readme.txt").write_text("not a drop")

    def _write_month(self, folder: Path, number: int, random: np.random.Generator) -> None:
        is_newest = number == max(len(self.months), 1) - 1
        columns = list(self.columns)
        if is_newest and self.changes == "column gone" and len(columns) > 1:
            columns.pop()
        if is_newest and self.changes == "column came":
            columns.append(Column("came", "few"))
        if is_newest and number and self.changes == "copy of the month before":
            random, number = np.random.default_rng([self.seed, number - 1]), number - 1
        else:
            random = np.random.default_rng([self.seed, number])
        folder.mkdir(parents=True, exist_ok=True)
        table = self._table(columns, number, folder, random)
        rows = list(zip(*(values for _, values in table), strict=True)) if table else []
        names = [name for name, _ in table]
        step = max(1, -(-len(rows) // self.files))
        for part in range(self.files):
            some = [list(row) for row in rows[part * step : (part + 1) * step]]
            for row in some:
                if len(row) > 1 and random.random() < self.broken_rows:
                    row.pop()
            self._write_file(folder / f"log {part}.csv", names, some)

    def _table(
        self, columns: Sequence[Column], month: int, folder: Path, random: np.random.Generator
    ) -> list[tuple[str, list[str]]]:
        table: list[tuple[str, list[str]]] = []
        rows = self.rows
        if self.identifier is not None:
            table.append(("impression_id", _identifiers(self.identifier, rows, month)))
        if self.times is not None:
            table.append(("timestamp", _times(self.times, rows, month, random)))
        for column in columns:
            values = _cells(column.kind, rows, folder, random)
            odd = random.random(rows) < self.odd_cells
            table.append(
                (column.name, [str(random.choice(_CELLS)) if o else v for v, o in zip(values, odd, strict=True)])
            )
        if self.label is not None:
            name, form = self.label
            click, none = _LABELS[form]
            clicked = random.random(rows) < self.click_rate
            table.append((name, [click if c else none for c in clicked]))
        return table

    def _write_file(self, path: Path, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.delimiter, lineterminator=self.newline)
        if self.header:
            writer.writerow(names)
        writer.writerows(rows)
        content = text.getvalue().encode(self.encoding, "replace")
        if self.packed:
            path, content = path.with_name(f"{path.name}.gz"), gzip.compress(content, 1)
        path.write_bytes(content)

    def edit_config(self, path: Path) -> None:
        """Makes the changes in a config that `init` wrote."""
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for key, value in self.config.items():
            section, _, name = key.partition(".")
            if name:
                document.setdefault(section, {})[name] = value
            else:
                document[section] = value
        path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _identifiers(kind: str, rows: int, month: int) -> list[str]:
    if kind == "repeats":
        return [f"{month}-{number // 2}" for number in range(rows)]
    if kind == "same each month":
        return [f"i{number}" for number in range(rows)]
    return [f"{month:02}{number:010x}" for number in range(rows)]


def _times(kind: str, rows: int, month: int, random: np.random.Generator) -> list[str]:
    start = np.datetime64(f"{_MONTHS[min(month, len(_MONTHS) - 1)]}-01T00:00:00")
    span = {"one minute": 60, "one hour": 3_600}.get(kind, 27 * 86_400)
    times = start + np.sort(random.integers(0, span, rows)).astype("timedelta64[s]")
    seconds = times.astype("datetime64[s]").astype(np.int64)
    if kind == "seconds":
        return [str(value) for value in seconds]
    if kind == "milliseconds":
        return [str(value * 1_000) for value in seconds]
    if kind == "hours":
        return [str(value).replace("-", "").replace("T", "")[2:10] for value in times]
    return [str(value) for value in times]


def _cells(kind: str, rows: int, folder: Path, random: np.random.Generator) -> list[str]:
    if kind == "few":
        return [str(value) for value in random.choice(["a", "b", "c"], rows)]
    if kind == "many":
        return [f"v{value}" for value in random.zipf(1.3, rows) % 1_000]
    if kind == "codes":
        return [str(value) for value in random.choice(random.integers(0, 4_280_543_349, 20), rows)]
    if kind == "quantity":
        return [f"{value:.4g}" for value in random.lognormal(0, 3, rows)]
    if kind == "huge":
        return [f"{value:.6g}" for value in random.normal(0, 1, rows) * 10.0 ** random.integers(-40, 40, rows)]
    if kind == "constant":
        return ["same"] * rows
    if kind == "empty":
        return [""] * rows
    if kind == "unique":
        return [f"u{number}" for number in range(rows)]
    if kind == "list":
        return ["|".join(random.choice(["x", "y", "z"], random.integers(0, 4))) for _ in range(rows)]
    if kind == "free text":
        return [" ".join(random.choice(["buy", "now", "cheap", "söckchen", "😀"], 6)) for _ in range(rows)]
    if kind == "odd":
        return [str(value) for value in random.choice(_CELLS, rows)]
    return _images(kind, rows, folder, random)


def _images(kind: str, rows: int, folder: Path, random: np.random.Generator) -> list[str]:
    names = [f"ad {number}.png" for number in range(4)]
    for number, name in enumerate(names):
        if kind == "images" or number:
            Image.new("RGB", (8 + number, 8), (60 * number, 20, 200)).save(folder / name)
    if kind == "broken images":
        (folder / names[0]).write_bytes(b"\x89PNG\r\n\x1a\n cut off")
        names[1] = "missing.png"
    if kind == "images elsewhere":
        names = [f"https://example.com/{name}" for name in names]
    return [str(value) for value in random.choice(names, rows)]


_KINDS = (
    *("few", "few", "many", "codes", "quantity", "huge", "constant", "empty", "unique", "list", "free text", "odd"),
    *("images", "broken images", "images elsewhere"),
)
#: Small networks and one pass: what is asked is that the run ends well, not that the model is good.
_QUICK = {"training.max_epochs": 1, "network.hidden_units": [4], "ingestion.image_size": 16}
#: Images that are not there are let through to training.
_OPEN_GATES_OF_DATA = {"ingestion.max_missing_image_share": 1.0}
#: Hardly a gate: most that is trained is pushed.
_OPEN_GATES = {
    "evaluation.thresholds": [{"metric": "auc", "lower": 0.0}],
    "evaluation.confidence_intervals": False,
}
_LIMITS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {"ingestion.max_quarantine_share": 1.0},
    {"ingestion.max_quarantine_share": 0.0},
    {"ingestion.chunk_bytes": 1_024, "ingestion.compress": True},
    {"ingestion.max_field_bytes": 64},
    {"ingestion.max_missing_image_share": 0.1},
    {"ingestion.max_image_bytes": 1_024, "ingestion.max_image_pixels": 256},
    {"split.by": "hash"},
    {"split.by": "time"},
    {"split.by": "hash", "split.eval_share": 0.5, "split.validation_share": 0.4},
    {"split.eval_share": 0.97},
    {"split.validation_share": 0.001},
    {"split.eval_share": 0.6, "split.validation_share": 0.5},
    {"data.window": 1},
    {"network.largest_combination": 0},
    {"network.embedding_dimension": 1, "network.cross_layers": 1},
    {"training.batch_size": 1_000_000},
    {"training.batch_size": 7},
    {"training.learning_rate": 1e6},
    {"training.effect_rows": 1},
    {"training.negative_sampling_rate": 1e-6},
    {"training.unknown_rate": 0.0, "training.creative_id_rate": 0.0},
    {"training.mixed_precision": True},
    {"evaluation.thresholds": [{"metric": "calibration_ratio", "lower": 0.99, "upper": 1.01}]},
    {"evaluation.slices": [["no_such_column"]]},
    {"serving.validation_requests": 1},
    {"serving.model_name": "a model/of mine"},
    {"no_such_section": {"x": 1}},
)


@st.composite
def projects(draw: st.DrawFn, *, is_plain: bool) -> Project:
    """Projects that are in order but for names, cells and limits, or that are odd in some respect.

    Each is made from one number: of what it had drawn one by one, Hypothesis would make several that hardly differ.
    """
    return make_project(draw(st.randoms(use_true_random=True, note_method_calls=False)), is_plain=is_plain)


def make_project(random: Random, *, is_plain: bool) -> Project:
    """A project as chance has it."""

    def odd(usual: Any, *others: Any) -> Any:
        """The usual value; in a project that is not plain, another at times."""
        return random.choice(others) if not is_plain and random.random() < _ODD else usual

    columns = [Column(_name(random), random.choice(_KINDS)) for _ in range(random.randint(1, 6))]
    # A name that comes twice is refused at once.
    columns = odd(list({column.name: column for column in columns}.values()), columns)

    return Project(
        seed=random.randrange(2**16),
        rows=odd(random.choice((150, 300)), 0, 1, 2, 3, 8, 30),
        months=odd(
            random.choice([(), _MONTHS[:1], _MONTHS[:1], _MONTHS[:2]]),
            _MONTHS,
            *((_MONTHS[0], month) for month in _ODD_MONTHS),
        ),
        columns=tuple(columns),
        label=odd(
            (random.choice(("clicked", "click", "is_click")), random.choice([*_LABELS][:6])),
            *((name, form) for name in ("clicked", "class", "converted") for form in _LABELS),
            None,
        ),
        click_rate=odd(0.3, 0.0, 0.01, 0.03, 0.97, 1.0),
        times=odd(random.choice((None, "iso", "seconds", "hours")), "milliseconds", "one minute", "one hour"),
        identifier=odd("unique", None, "repeats", "same each month"),
        delimiter=odd(",", ";", "\t", "|"),
        encoding=odd("utf-8", *_ENCODINGS),
        header=odd(True, False),
        newline=odd("\n", "\r\n", "\r"),
        packed=odd(False, True),
        broken_rows=odd(0.0, 0.005, 0.05, 0.5),
        odd_cells=odd(0.0, 0.01, 0.2),
        files=odd(1, 2, 3),
        litter=odd(False, True),
        changes=odd("", "column gone", "column came", "copy of the month before"),
        config=_QUICK | _OPEN_GATES_OF_DATA | _OPEN_GATES | random.choice(_LIMITS),
    )


def _name(random: Random) -> str:
    """One of `_NAMES`, or up to twelve characters of any kind, those of one plane as likely as those of ASCII."""
    if random.random() < _KNOWN_NAME:
        return random.choice(_NAMES)
    name = ""
    for _ in range(random.randint(0, 12)):
        code = random.randrange(1, random.choice((0x80, 0x800, 0xD800, 0x110000)))
        # Half of a pair of UTF-16 is no character.
        name += chr(code if not 0xD800 <= code < 0xE000 else 0xFFFD)
    return name
