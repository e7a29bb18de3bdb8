"""A bundle: all that a device needs to recognise, in one signed file that is the same to the byte whoever makes it.

A ZIP archive without compression, times or anything else that varies: `manifest.json`, `manifest.sig` (Ed25519, RFC
8032, over the manifest's bytes), and the files that the manifest names with size and SHA-256: `recogniser.tflite`,
`catalogue.json`, `embeddings.i8` (int8 [N, D], by rows), `scales.f4` (float32 [N], little-endian), `thresholds.json`,
and perhaps `probes.json`, small pictures of creatives that the device recognises before it runs the bundle, and, of a
large catalogue, `centroids.f4` (float32 [K, D]) and `clusters.i4` (int32 [K + 1]), little-endian: see `Clusters`; where
devices score ads, too, what `scorer.FILES` names.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import RUNTIME_VERSION, scorer
from .catalogue import ApprovedCreative, Catalogue, Clusters
from .errors import BundleRefused, EdgeError
from .keys import has_signed

FORMAT = 1
MAXIMUM_BYTES = 1 << 30
_MANIFEST, _SIGNATURE = "manifest.json", "manifest.sig"
_FILES = ("recogniser.tflite", "catalogue.json", "embeddings.i8", "scales.f4", "thresholds.json")
_NAMES = (_MANIFEST, _SIGNATURE, *_FILES)
_PROBES = "probes.json"
#: What only some bundles hold; the manifest says which.
_CENTROIDS, _CLUSTERS = "centroids.f4", "clusters.i4"
_OPTIONAL = (_PROBES, _CENTROIDS, _CLUSTERS, *scorer.FILES)
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Probe:
    """A picture that a device must recognise.

    Attributes:
        creative: The id of its row in the catalogue.
        jpeg: The picture.
    """

    creative: str
    jpeg: bytes


@dataclass(frozen=True)
class Bundle:
    """What a verified bundle holds.

    Attributes:
        version: A later one has a greater number.
        created: Seconds since 1970; a device whose clock says less has a wrong clock.
        model: The LiteRT file.
        catalogue: The creatives.
        known: The least similarity at which a creative is recognised.
        digest: The SHA-256 of the file, hexadecimal.
        probes: Pictures that a device must recognise.
        scorer: The files of a scorer of ads by name, see `scorer.FILES`; None if it has none.
    """

    version: int
    created: int
    model: bytes
    catalogue: Catalogue
    known: float
    digest: str
    probes: tuple[Probe, ...] = ()
    scorer: Mapping[str, bytes] | None = None


def write_bundle(
    file: Any,
    private_key: Any,
    *,
    model: bytes,
    catalogue: Catalogue,
    thresholds: dict[str, float],
    version: int,
    created: int,
    minimum_runtime: str = RUNTIME_VERSION,
    probes: Sequence[Probe] = (),
    scorer_files: Mapping[str, bytes] | None = None,
) -> None:
    """Writes a bundle.

    Args:
        file: A binary file, open for writing.
        private_key: The `Ed25519PrivateKey` of who vouches for it.
        model: The recogniser's LiteRT file.
        catalogue: The creatives.
        thresholds: At least `known`.
        version: Its number, greater than that of earlier ones.
        created: Seconds since 1970.
        minimum_runtime: The oldest runtime that may run it, such as 0.1.0.
        probes: Pictures that a device must recognise before it runs the bundle.
        scorer_files: A scorer of ads, by the names of `scorer.FILES`; None for a bundle without.
    """
    rows = {"creatives": [asdict(each) for each in catalogue.creatives], "dimension": catalogue.embeddings.shape[1]}
    contents = {
        "recogniser.tflite": model,
        "catalogue.json": _json(rows),
        "embeddings.i8": np.ascontiguousarray(catalogue.embeddings).tobytes(),
        "scales.f4": catalogue.scales.astype("<f4").tobytes(),
        "thresholds.json": _json(thresholds),
    }
    if catalogue.clusters is not None:
        contents[_CENTROIDS] = catalogue.clusters.centroids.astype("<f4").tobytes()
        contents[_CLUSTERS] = catalogue.clusters.starts.astype("<i4").tobytes()
    if probes:
        pictures = [{"creative": probe.creative, "jpeg": base64.b64encode(probe.jpeg).decode()} for probe in probes]
        contents[_PROBES] = _json(pictures)
    if scorer_files is not None:
        contents.update({name: scorer_files[name] for name in scorer.FILES})
    manifest = _json(
        {
            "created": created,
            "files": {
                name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
                for name, content in contents.items()
            },
            "format": FORMAT,
            "minimum_runtime": minimum_runtime,
            "version": version,
        }
    )
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        signed = {_MANIFEST: manifest, _SIGNATURE: private_key.sign(manifest)}
        for name, content in {**signed, **contents}.items():
            entry = zipfile.ZipInfo(name, _FIXED_TIME)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)


def read_bundle(
    content: bytes, public_keys: Sequence[Any], *, minimum_version: int = 0, runtime: str = RUNTIME_VERSION
) -> Bundle:
    """Verifies a bundle and reads it; nothing of it is interpreted before its signature is found good.

    Args:
        content: The file.
        public_keys: The `Ed25519PublicKey`s that are trusted; any of them may have signed.
        minimum_version: An older one is refused, so that nobody brings back a withdrawn catalogue.
        runtime: The version of this runtime.

    Raises:
        BundleRefused: It is damaged or cut off, unsigned, altered, too old, for another runtime, or does not fit
            together.
    """
    parts = _read_archive(content)
    manifest = _verified_manifest(parts[_MANIFEST], parts[_SIGNATURE], public_keys)
    try:
        _check(manifest, parts, minimum_version, runtime)
        return _interpret(manifest, parts, hashlib.sha256(content).hexdigest())
    except (ValueError, KeyError, TypeError) as error:
        raise BundleRefused("unfit", f"its parts do not fit together: {error}", "Export it anew.") from None


def _check(manifest: dict[str, Any], parts: dict[str, bytes], minimum_version: int, runtime: str) -> None:
    if set(manifest["files"]) != set(parts) - {_MANIFEST, _SIGNATURE}:
        raise BundleRefused("altered", "it holds other files than the manifest says", "Fetch the bundle again.")
    for name, stated in manifest["files"].items():
        if stated["size"] != len(parts[name]) or stated["sha256"] != hashlib.sha256(parts[name]).hexdigest():
            raise BundleRefused("altered", f"{name} is not what the manifest says", "Fetch the bundle again.")
    if manifest["version"] < minimum_version:
        raise BundleRefused(
            "too_old",
            f"version {manifest['version']} is older than {minimum_version}, which ran here or is required",
            "Export it anew: a new version is newer than all before.",
        )
    if _numbers(manifest["minimum_runtime"]) > _numbers(runtime):
        raise BundleRefused(
            "wrong_runtime",
            f"it needs runtime {manifest['minimum_runtime']} or later, this is {runtime}",
            "Update adclick-edge.",
        )


def read_bundle_file(path: Path, public_keys: Sequence[Any], *, minimum_version: int = 0) -> Bundle:
    """As `read_bundle`, of a file.

    Raises:
        EdgeError: The file cannot be read.
        BundleRefused: See `read_bundle`.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        raise EdgeError(f"{path}: cannot be read: {error.strerror}", "Name the bundle's file.") from None
    return read_bundle(content, public_keys, minimum_version=minimum_version)


def _read_archive(content: bytes) -> dict[str, bytes]:
    if len(content) > MAXIMUM_BYTES:
        raise BundleRefused("damaged", f"more than {MAXIMUM_BYTES} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(content) for entry in entries):
                raise BundleRefused("damaged", "it holds compressed entries, which no bundle has")
            if sorted(set(names) - set(_OPTIONAL)) != sorted(_NAMES) or len(set(names)) != len(names):
                unsigned = _SIGNATURE not in names and _MANIFEST in names
                reason = "unsigned" if unsigned else "damaged"
                raise BundleRefused(reason, f"it holds {sorted(names)[:10]}, a bundle holds {sorted(_NAMES)}")
            return {entry.filename: archive.read(entry) for entry in entries}
    except BundleRefused:
        raise
    except Exception as error:  # zipfile raises whatever a hostile file makes it
        raise BundleRefused(
            "damaged", f"no whole archive: {type(error).__name__}: {error}"[:200], "Fetch the bundle again."
        ) from None


def _verified_manifest(manifest: bytes, signature: bytes, public_keys: Sequence[Any]) -> dict[str, Any]:
    if not has_signed(manifest, signature, public_keys):
        raise BundleRefused(
            "unsigned", "no trusted key has signed it", "Give the public key of who exported it (--public-key)."
        )
    found = json.loads(manifest)
    if found.get("format") != FORMAT:
        raise BundleRefused("wrong_runtime", f"its format is {found.get('format')}, this runtime reads {FORMAT}")
    return dict(found)


def _interpret(manifest: dict[str, Any], parts: dict[str, bytes], digest: str) -> Bundle:
    table = json.loads(parts["catalogue.json"])
    creatives = tuple(ApprovedCreative(**row) for row in table["creatives"])
    count, dimension = len(creatives), int(table["dimension"])
    embeddings = np.frombuffer(parts["embeddings.i8"], np.int8).reshape(count, dimension)
    scales = np.frombuffer(parts["scales.f4"], "<f4").reshape(count)
    if not np.isfinite(scales).all():
        raise ValueError("a scale is no number")
    clusters = None
    if _CENTROIDS in parts:
        centroids = np.frombuffer(parts[_CENTROIDS], "<f4").reshape(-1, dimension)
        clusters = Clusters(centroids, np.frombuffer(parts[_CLUSTERS], "<i4"))
    known = float(json.loads(parts["thresholds.json"])["known"])
    if not math.isfinite(known):
        raise ValueError("the threshold is no number")
    return Bundle(
        version=int(manifest["version"]),
        created=int(manifest["created"]),
        model=parts["recogniser.tflite"],
        catalogue=Catalogue(creatives, embeddings, scales, clusters),
        known=known,
        digest=digest,
        probes=tuple(
            Probe(str(row["creative"]), base64.b64decode(row["jpeg"], validate=True))
            for row in json.loads(parts.get(_PROBES, b"[]"))
        ),
        scorer={name: parts[name] for name in scorer.FILES} if parts.keys() & set(scorer.FILES) else None,
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _json(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
