"""Makes a bundle: a recogniser's version, the catalogue of creatives, and a signature."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adclick.pipeline.config.settings import load_config
from adclick.schema.errors import ConfigError
from adclick.storage import filesystem
from adclick.storage.local_copy import local_copy
from adclick.storage.push_directory import whole_versions
from adclick.storage.recogniser_versions import FACTS_FILE, RECOGNISER_FILE, recogniser_folder, recogniser_versions

_COLUMNS = ("id", "image", "name", "valid_from", "valid_until", "forbidden")
_LARGEST_TABLE = 1 << 30
_LARGEST_IMAGE = 64 << 20
#: So many creatives are tried, and so many of those that are recognised go along, for devices to test a bundle with.
_TRIED_PROBES, _PROBES = 16, 4


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        version: The bundle's number.
        creatives: How many creatives it knows.
        forbidden: How many of them must never be shown.
        size: Bytes.
        sha256: Of the file, hexadecimal.
        alike: Pairs of creatives, one forbidden, one not, that the recogniser cannot tell apart.
        click_model: The version of the click model whose scorer it holds; None if it has none.
        unscored: Creatives whose picture the click model cannot take, so that ads with it are scored without.
    """

    version: int
    creatives: int
    forbidden: int
    size: int
    sha256: str
    alike: tuple[tuple[str, str], ...]
    click_model: int | None = None
    unscored: tuple[str, ...] = ()


def run_export(
    config: Path | None,
    *,
    creatives: str,
    key: Path,
    output: str,
    recogniser: str | None = None,
    version: int | None = None,
    created: int | None = None,
    with_scorer: bool = True,
) -> Exported:
    """Writes a bundle for devices; the same inputs, version and time give the same bytes.

    Args:
        config: The config whose newest recogniser is taken; not needed where `recogniser` names one.
        creatives: A CSV file with the columns `id` and `image` (a path, relative to the file, or an address), and, if
            there is something to say, `name`, `valid_from`, `valid_until` (ISO 8601; UTC without an offset) and
            `forbidden` (true or false).
        key: The private Ed25519 key that signs.
        output: The bundle's file, here or in a bucket.
        recogniser: The folder of a recogniser's version.
        version: Its number; by default seconds since 1970 of `created`, so that later ones are greater.
        created: Seconds since 1970; by default `SOURCE_DATE_EPOCH` from the environment, or now.
        with_scorer: Whether the config's newest click model, where one was pushed, comes along to score ads.

    Raises:
        ConfigError: There is no recogniser, a row or an image cannot be read, the key is none, or devices cannot run
            the click model.
    """
    import numpy as np

    from adclick.pipeline.edge.clusters import with_clusters
    from adclick.serving.edge.bundle import Bundle, Probe, read_bundle, write_bundle
    from adclick.serving.edge.catalogue import Catalogue, quantise
    from adclick.serving.edge.errors import EdgeError
    from adclick.serving.edge.keys import read_private_key
    from adclick.serving.edge.self_test import passing, run_self_test
    from adclick.serving.edge.watch import Eye

    folder = recogniser or _newest_recogniser(config)
    model, thresholds = _read_recogniser(folder)
    if created is None:
        created = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    number = created if version is None else version
    click_model, scorer = _newest_scorer(config) if with_scorer else (None, None)
    unscored: list[str] = []

    def booked(creative: str, content: bytes) -> None:
        if scorer is not None and not scorer.add_creative(content):
            unscored.append(creative)

    try:
        private_key = read_private_key(key)
        rows, embeddings, tried = _embedded(creatives, model, booked)
        catalogue = with_clusters(Catalogue(rows, *quantise(np.stack(embeddings))))

        scorer_files = None if scorer is None else scorer.files()

        def written(probes: Sequence[Probe]) -> tuple[bytes, Bundle]:
            file = io.BytesIO()
            write_bundle(
                file,
                private_key,
                model=model,
                catalogue=catalogue,
                thresholds=thresholds,
                version=number,
                created=created,
                probes=probes,
                scorer_files=scorer_files,
            )
            # Read as a device reads it: what would be refused there is never handed out.
            return file.getvalue(), read_bundle(file.getvalue(), [private_key.public_key()])

        _, bundle = written(())
        probes = passing(Eye(bundle), tried, _PROBES)
        if not probes:
            raise ConfigError(
                f"{folder}: recognises none of the {len(tried)} creatives that were tried, as small pictures of them",
                f"Train it anew, or lower thresholds.known ({bundle.known:g}).",
            )
        content, bundle = written(probes)
        run_self_test(Eye(bundle))
    except EdgeError as error:
        raise ConfigError(error.message, error.remedy) from None
    with filesystem.open_write_atomic(output) as stream:
        stream.write(content)
    return Exported(
        version=number,
        creatives=len(rows),
        forbidden=sum(row.forbidden for row in rows),
        size=len(content),
        sha256=bundle.digest,
        alike=_alike(catalogue, bundle.known),
        click_model=click_model,
        unscored=tuple(unscored),
    )


def _newest_recogniser(config: Path | None) -> str:
    if config is None:
        raise ConfigError("no recogniser is named", "Give --config or --recogniser.")
    folder = recogniser_folder(load_config(config).push_base)
    versions = recogniser_versions(folder)
    if not versions:
        raise ConfigError(
            f"{folder}: holds no recogniser", "Train one: adclick run --pipeline recognition --config FILE."
        )
    return filesystem.join(folder, str(versions[-1]))


def _newest_scorer(config: Path | None) -> tuple[int | None, Any]:
    base = load_config(config).push_base if config is not None else ""
    versions = whole_versions(base) if base else []
    if not versions:
        return None, None
    from adclick.pipeline.edge.scorer import DeviceScorer

    return versions[-1], DeviceScorer(local_copy(filesystem.join(base, str(versions[-1]))), versions[-1])


def _read_recogniser(folder: str) -> tuple[bytes, dict[str, float]]:
    contents = []
    for name in (RECOGNISER_FILE, FACTS_FILE):
        path = filesystem.join(folder, name)
        try:
            contents.append(filesystem.read(path, _LARGEST_TABLE))
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read: {error}", "Name the folder of a recogniser's version."
            ) from None
    try:
        thresholds = {str(name): float(value) for name, value in json.loads(contents[1])["thresholds"].items()}
        thresholds["known"]  # a KeyError is told below
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{folder}/{FACTS_FILE}: has no thresholds.known: {error!r}", "Train the recogniser anew."
        ) from None
    return contents[0], thresholds


def _embedded(
    table: str, model: bytes, booked: Callable[[str, bytes], None]
) -> tuple[tuple[Any, ...], list[Any], list[Any]]:
    """The creatives, their embeddings, and small pictures of some of them."""
    import numpy as np

    from adclick.serving.edge.errors import BrokenFrame
    from adclick.serving.edge.frame import open_frame, prepare
    from adclick.serving.edge.recogniser import Recogniser
    from adclick.serving.edge.self_test import make_probe

    eye = Recogniser(model)
    rows, embeddings, probes, seen = [], [], [], set()
    lines = _table(table)
    tried = set(np.linspace(2, len(lines) + 1, min(len(lines), _TRIED_PROBES)).astype(int).tolist())
    for number, cells in enumerate(lines, 2):
        where = f"{table}, line {number}"
        creative = _creative(cells, where)
        if creative.id in seen:
            raise ConfigError(f"{where}: the id {creative.id!r} stands there twice", "Give each creative one row.")
        seen.add(creative.id)
        image = cells["image"]
        path = image if "://" in image or os.path.isabs(image) else filesystem.join(os.path.dirname(table), image)
        try:
            content = filesystem.read(path, _LARGEST_IMAGE)
            embedding = eye.embed(prepare(open_frame(content), eye.size))
        except (OSError, BrokenFrame) as error:
            raise ConfigError(f"{where}: {path}: {error}", "Correct the column image, or leave the row out.") from None
        if not np.isfinite(embedding).all() or not np.abs(embedding).max() > 0:
            raise ConfigError(f"{where}: {path}: a blank picture, which nothing tells from others", "Leave it out.")
        booked(creative.id, content)
        rows.append(creative)
        embeddings.append(embedding)
        if number in tried:
            probes.append(make_probe(creative.id, open_frame(content), eye.size))
    if not rows:
        raise ConfigError(f"{table}: holds no creative", "Every picture would be an alert: list what is booked.")
    return tuple(rows), embeddings, probes


def _table(table: str) -> list[dict[str, str]]:
    try:
        text = filesystem.read(table, _LARGEST_TABLE).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{table}: cannot be read: {error}", "Name a CSV file in UTF-8.") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    names = reader.fieldnames or ()
    wrong = [name for name in names if name not in _COLUMNS]
    if wrong or not {"id", "image"} <= set(names):
        raise ConfigError(
            f"{table}: columns {', '.join(names)}", f"It has id, image and any of {', '.join(_COLUMNS[2:])}."
        )
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ConfigError(f"{table}, line {reader.line_num}: {error}", "Correct the file.") from None
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise ConfigError(f"{table}, line {number}: another number of fields than the header", "Correct the line.")
    return rows


def _creative(cells: dict[str, str], where: str) -> Any:
    from adclick.serving.edge.catalogue import ApprovedCreative

    if not cells["id"]:
        raise ConfigError(f"{where}: no id", "Give each creative its key.")
    forbidden = cells.get("forbidden", "").strip().lower()
    if forbidden not in ("", "true", "false", "1", "0"):
        raise ConfigError(f"{where}: forbidden is {forbidden!r}", "Write true or false.")
    begin, end = (_seconds(cells.get(name, ""), name, where) for name in ("valid_from", "valid_until"))
    if begin is not None and end is not None and begin >= end:
        raise ConfigError(f"{where}: valid_until is not after valid_from", "Correct the booking.")
    return ApprovedCreative(cells["id"], cells.get("name") or cells["id"], begin, end, forbidden in ("true", "1"))


def _seconds(text: str, name: str, where: str) -> float | None:
    if not text.strip():
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(
            f"{where}: {name} is {text!r}", "Write a time of ISO 8601, such as 2026-12-24T18:00Z."
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _alike(catalogue: Any, known: float) -> tuple[tuple[str, str], ...]:
    """Each forbidden creative whose nearest permitted one it could be taken for, or that for it."""
    import numpy as np

    forbidden = [number for number, row in enumerate(catalogue.creatives) if row.forbidden]
    permitted = [number for number, row in enumerate(catalogue.creatives) if not row.forbidden]
    if not forbidden or not permitted:
        return ()
    rows = catalogue.embeddings.astype(np.float32) * catalogue.scales[:, None]
    pairs = []
    for number in forbidden:
        similarities = rows[permitted] @ rows[number]
        nearest = int(np.argmax(similarities))
        if similarities[nearest] >= known:
            pairs.append((catalogue.creatives[number].id, catalogue.creatives[permitted[nearest]].id))
    return tuple(pairs)


def write_recogniser(folder: Path, model: bytes, thresholds: dict[str, float]) -> None:
    """Writes a recogniser's version as the recognition pipeline lays it out."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FACTS_FILE).write_text(json.dumps({"thresholds": thresholds}))
    (folder / RECOGNISER_FILE).write_bytes(model)


def create_key_files(folder: Path) -> Sequence[Path]:
    """Makes a key pair in a folder: `private.pem` signs bundles, `public.pem` goes to devices.

    Raises:
        ConfigError: There is one, or the folder cannot be written.
    """
    from adclick.serving.edge.errors import EdgeError
    from adclick.serving.edge.keys import create_keys

    files = (folder / "private.pem", folder / "public.pem")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        create_keys(*files)
    except EdgeError as error:
        raise ConfigError(error.message, error.remedy) from None
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}", "Choose another folder.") from None
    return files
