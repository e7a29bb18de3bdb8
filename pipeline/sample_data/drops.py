"""The files of a drop: impressions as CSV, with the defects of real exports, and the images they name."""

from __future__ import annotations

import gzip
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.compute as pc  # type: ignore[import-untyped, unused-ignore]
from numpy.typing import NDArray

from adclick.pipeline.sample_data import images
from adclick.pipeline.sample_data.population import (
    AD_CATEGORIES,
    COUNTRIES,
    DEVICES,
    POSITIONS,
    SITE_CATEGORIES,
    SYSTEMS,
    SamplePopulation,
)
from adclick.pipeline.sample_data.traffic import SampleTraffic

COLUMNS = (
    "impression_id",
    "timestamp",
    "user_id",
    "device_type",
    "os",
    "country",
    "site_id",
    "site_category",
    "ad_position",
    "ad_id",
    "campaign_id",
    "advertiser_id",
    "ad_category",
    "ad_width",
    "ad_height",
    "image",
    "clicked",
)
#: How each column writes a value that was lost.
MISSING_TEXT = {
    "user_id": "null",
    "os": "",
    "country": "null",
    "site_category": "",
    "ad_width": "-1",
    "ad_height": "-1",
    "image": "",
}
#: What the anomalous month calls the devices.
_RENAMED_DEVICES = tuple(f"{name.upper()}_V2" for name in DEVICES)

_ROWS_PER_FILE = 250_000
_CORRUPT_SHARE = 0.002
_DUPLICATE_SHARE = 0.0005
_LONG_FIELD_BYTES = 20_000
_LONG_FIELDS = 4
#: Each broken creative is the one whose share of the impressions is nearest to this.
_BROKEN_SHARE = 0.0015
_DEFECTS = ("cmyk", "gif", "truncated", "empty", "missing", "oversized")
_UNREADABLE = ("truncated", "empty", "missing", "oversized")


@dataclass(frozen=True)
class SampleCreatives:
    """The image files: a name for each creative, and the defects of a few (`_DEFECTS`) by creative."""

    names: tuple[str, ...]
    defects: Mapping[int, str]

    @property
    def unreadable(self) -> list[int]:
        """The creatives whose file yields no image."""
        return [creative for creative, defect in self.defects.items() if defect in _UNREADABLE]


@dataclass
class DropCounts:
    """What one month's files hold.

    Attributes:
        rows: Sound impressions, each once.
        duplicates: Exact repeats of a sound impression.
        corrupt: Unusable rows by what is wrong with them.
        images: Image files named by the rows, the missing ones included.
    """

    rows: int = 0
    duplicates: int = 0
    corrupt: dict[str, int] = field(default_factory=dict)
    images: int = 0


def plan_creatives(population: SamplePopulation, shown: NDArray[np.int64], *, defects: bool) -> SampleCreatives:
    """Names the image files and chooses which are broken, given the creative of each impression (-1 for none)."""
    counts = np.bincount(shown[shown >= 0], minlength=len(population.creative_category))
    nearest = np.argsort(np.abs(counts / max(len(shown), 1) - _BROKEN_SHARE), kind="stable")
    broken = {int(nearest[place]): defect for place, defect in enumerate(_DEFECTS)} if defects else {}
    png = population.looks.png.copy()
    for creative, defect in broken.items():
        png[creative] = defect == "oversized"
    names = [f"images/cr{creative:06d}.{'png' if is_png else 'jpg'}" for creative, is_png in enumerate(png)]
    for creative, defect in broken.items():
        if defect == "gif":
            names[creative] = f"images/cr{creative:06d}.gif"
    return SampleCreatives(tuple(names), broken)


def image_bytes(
    population: SamplePopulation, creatives: SampleCreatives, creative: int, random: np.random.Generator
) -> bytes | None:
    """The file of one creative, or None where the file is missing."""
    defect = creatives.defects.get(creative)
    if defect == "missing":
        return None
    if defect == "empty":
        return b""
    if defect == "oversized":
        return images.huge_png()
    image = images.render(population.looks, creative, random)
    if defect == "cmyk":
        return images.encode(image.convert("CMYK"), "JPEG")
    if defect == "gif":
        return images.encode(image, "GIF")
    if defect == "truncated":
        content = images.encode(image, "JPEG")
        return content[: len(content) // 3]
    return images.encode(image, "PNG" if creatives.names[creative].endswith(".png") else "JPEG")


def impression_ids(rows: int, random: np.random.Generator) -> pa.Array:
    """Opaque ids of 16 hexadecimal digits, all different."""
    numbers = np.unique(random.integers(0, 2**64, rows + rows // 1000 + 16, dtype=np.uint64))
    chosen: NDArray[np.uint64] = random.permutation(numbers)[:rows]
    digits = chosen.astype(">u8").tobytes().hex()
    return pa.array([digits[start : start + 16] for start in range(0, 16 * rows, 16)])


def _named(codes: NDArray[np.int64], names: Sequence[str], missing: str = "") -> pa.Array:
    return pa.array([*names, missing]).take(pa.array(np.where(codes < 0, len(names), codes)))


def _numbered(prefix: str, codes: NDArray[np.int64], size: int, missing: str = "") -> pa.Array:
    return _named(codes, [f"{prefix}{number}" for number in range(size)], missing)


def _texts(
    population: SamplePopulation,
    traffic: SampleTraffic,
    creatives: SampleCreatives,
    ids: pa.Array,
    clicked: NDArray[np.int8],
    rows: NDArray[np.int64],
    anomalous: bool,
) -> list[pa.Array]:
    ads, ad = population.ads, traffic.ad[rows]
    times = np.datetime_as_string(traffic.seconds[rows].astype("datetime64[s]"), unit="s")
    widths, heights = zip(*images.SLOTS, strict=True)
    columns = {
        "impression_id": ids.take(pa.array(rows)),
        "timestamp": pa.array(times.tolist()),
        "user_id": _numbered("u", traffic.user[rows], len(population.users.share), MISSING_TEXT["user_id"]),
        "device_type": _named(traffic.device[rows], _RENAMED_DEVICES if anomalous else DEVICES),
        "os": _named(traffic.system[rows], SYSTEMS, MISSING_TEXT["os"]),
        "country": _named(traffic.country[rows], COUNTRIES, MISSING_TEXT["country"]),
        "site_id": _numbered(
            "s", np.full_like(rows, -1) if anomalous else traffic.site[rows], len(population.sites.share)
        ),
        "site_category": _named(traffic.site_category[rows], SITE_CATEGORIES, MISSING_TEXT["site_category"]),
        "ad_position": _named(traffic.position[rows], POSITIONS),
        "ad_id": _numbered("ad", ad, len(ads.weight)),
        "campaign_id": _numbered("c", ads.campaign[ad], population.campaigns),
        "advertiser_id": _numbered("adv", ads.advertiser[ad], population.advertisers),
        "ad_category": _named(ads.category[ad], AD_CATEGORIES),
        "ad_width": _named(traffic.width[rows], [str(width) for width in widths], MISSING_TEXT["ad_width"]),
        "ad_height": _named(traffic.height[rows], [str(height) for height in heights], MISSING_TEXT["ad_height"]),
        "image": _named(traffic.creative[rows], creatives.names, MISSING_TEXT["image"]),
        "clicked": _named(clicked[rows].astype(np.int64), ("0", "1")),
    }
    return [columns[name] for name in COLUMNS]


def _corrupted(line: bytes, kind: str, number: int) -> bytes:
    """A copy of a sound row, under an id of its own, that cannot be read."""
    cells = line.split(b",")
    cells[0] = b"corrupt%09d" % number
    if kind == "too_few_fields":
        cells = cells[:-3]
    elif kind == "too_many_fields":
        cells += [b"1", b"0"]
    elif kind == "label":
        cells[-1] = b"yes"
    elif kind == "invalid_utf8":
        cells[COLUMNS.index("site_id")] = b"s\xff\xfe1"
    elif kind == "long_field":
        cells[COLUMNS.index("user_id")] = b"u" * _LONG_FIELD_BYTES
    else:
        cells[COLUMNS.index("ad_category")] = b'"' + cells[COLUMNS.index("ad_category")]
    return b",".join(cells)


def _with_defects(lines: list[bytes], counts: DropCounts, random: np.random.Generator) -> list[bytes]:
    rows = len(lines)
    counts.duplicates = max(2, round(rows * _DUPLICATE_SHARE))
    corrupt = max(6, round(rows * _CORRUPT_SHARE))
    common = ("too_few_fields", "too_many_fields", "label", "invalid_utf8")
    kinds = ["long_field"] * min(_LONG_FIELDS, corrupt // 6)
    kinds += [common[number % len(common)] for number in range(corrupt - len(kinds) - 1)]
    sources = random.integers(0, rows, counts.duplicates + len(kinds))
    extra = [lines[source] for source in sources[: counts.duplicates]]
    for number, (source, kind) in enumerate(zip(sources[counts.duplicates :], kinds, strict=True)):
        extra.append(_corrupted(lines[source], kind, number))
        counts.corrupt[kind] = counts.corrupt.get(kind, 0) + 1
    # Places are among the sound rows; a stable sort puts each extra row behind the row of its place.
    places = np.concatenate([np.arange(rows), random.integers(0, rows, len(extra))])
    everything = [*lines, *extra]
    return [everything[number] for number in np.argsort(places, kind="stable")]


def _parts(lines: list[bytes]) -> Iterator[list[bytes]]:
    number = max(2, -(-len(lines) // _ROWS_PER_FILE))
    bounds = [len(lines) * part // number for part in range(number + 1)]
    for start, end in itertools.pairwise(bounds):
        yield lines[start:end]


def write_month(
    folder: Path,
    population: SamplePopulation,
    traffic: SampleTraffic,
    creatives: SampleCreatives,
    ids: pa.Array,
    clicked: NDArray[np.int8],
    rows: NDArray[np.int64],
    random: np.random.Generator | None,
    *,
    anomalous: bool,
) -> DropCounts:
    """Writes the CSV files of one month, in order of time, the last one compressed.

    Args:
        folder: The month's folder.
        population: The ids.
        traffic: All impressions.
        creatives: The image files.
        ids: The ids of all impressions.
        clicked: The clicks of all impressions, 0 or 1.
        rows: The month's impressions, as indices.
        random: Source of the defects, or None for files without any.
        anomalous: Whether the devices are renamed and the sites left empty.

    Returns:
        The counts of rows; those of images are zero.
    """
    texts = _texts(population, traffic, creatives, ids, clicked, rows, anomalous)
    lines = [line.encode() for line in pc.binary_join_element_wise(*texts, ",").to_pylist()]
    counts = DropCounts(rows=len(lines))
    sound = lines[0]
    if random is not None:
        lines = _with_defects(lines, counts, random)
    parts = list(_parts(lines))
    for number, part in enumerate(parts):
        if number == 0 and random is not None:
            # It swallows all that follows, so it ends the file.
            part = [*part, _corrupted(sound, "unterminated_quote", len(lines))]
            counts.corrupt["unterminated_quote"] = 1
        content = b"\n".join([",".join(COLUMNS).encode(), *part, b""])
        path = folder / f"impressions-{number:02d}.csv"
        if number < len(parts) - 1:
            path.write_bytes(content)
            continue
        buffer = io.BytesIO()
        with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=5, mtime=0, filename="") as compressed:
            compressed.write(content)
        path.with_name(path.name + ".gz").write_bytes(buffer.getvalue())
    return counts
