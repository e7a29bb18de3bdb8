"""A catalogue of very many creatives on a device: by its clusters against looking at every row.

Embeddings are drawn around a few thousand directions, as those of a campaign's variants lie; a search is for a row as a
capture gives it, at the cosine that captures have to their creatives.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from adclick.pipeline.edge.clusters import with_clusters
from adclick.serving.edge.bundle import read_bundle, write_bundle
from adclick.serving.edge.catalogue import ApprovedCreative, Catalogue, quantise
from benchmarks.measure import Result, faster, report, share

Rows = npt.NDArray[np.float32]

_DIMENSION, _CAMPAIGNS = 128, 4_000
_COSINE_WITHIN_A_CAMPAIGN, _COSINE_OF_A_CAPTURE = 0.7, 0.9


def _near(rows: Rows, cosine: float, generator: np.random.Generator) -> Rows:
    """Directions at about the given cosine to those of the rows."""
    noise = generator.standard_normal(rows.shape, np.float32)
    noise *= np.sqrt(1 / cosine**2 - 1) / np.linalg.norm(noise, axis=1, keepdims=True)
    moved = rows + noise
    near: Rows = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return near


def measure(creatives: int, searches: int) -> list[Result]:
    """Builds, writes, reads and searches a catalogue both ways."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    generator = np.random.default_rng(1)
    directions = generator.standard_normal((_CAMPAIGNS, _DIMENSION), np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rows = _near(directions[generator.integers(0, _CAMPAIGNS, creatives)], _COSINE_WITHIN_A_CAMPAIGN, generator)
    table = tuple(ApprovedCreative(f"creative-{number}", f"Creative {number}") for number in range(creatives))
    every = Catalogue(table, *quantise(rows))
    wanted = generator.integers(0, creatives, searches)
    captures = _near(rows[wanted], _COSINE_OF_A_CAPTURE, generator)
    del rows
    begin = time.perf_counter()
    clustered = with_clusters(every)
    print(f"clustered in {time.perf_counter() - begin:.1f} s", flush=True)
    key, file = Ed25519PrivateKey.generate(), io.BytesIO()
    write_bundle(file, key, model=b"", catalogue=clustered, thresholds={"known": 0.8}, version=1, created=1)
    content = file.getvalue()
    begin = time.perf_counter()
    catalogue = read_bundle(content, [key.public_key()]).catalogue
    seconds = time.perf_counter() - begin
    print(f"bundle of {len(content):,} bytes read in {seconds:.1f} s", flush=True)

    def searched(searched_catalogue: Catalogue, count: int) -> tuple[list[str], float]:
        begin = time.perf_counter()
        names = [
            searched_catalogue.creatives[searched_catalogue.nearest(capture)[0]].id for capture in captures[:count]
        ]
        return names, (time.perf_counter() - begin) / count

    few = min(searches, 100)
    brute, brute_seconds = searched(every, few)
    found, seconds = searched(catalogue, searches)
    right = np.mean([name == f"creative-{row}" for name, row in zip(found, wanted, strict=True)])
    brute_right = np.mean([name == f"creative-{row}" for name, row in zip(brute, wanted[:few], strict=True)])
    name = f"of {creatives:,} creatives"
    return [
        faster(f"nearest {name}, against every row", seconds, brute_seconds, ">= 10"),
        Result(
            f"right {name}, against every row's",
            float(right),
            float(brute_right),
            "share",
            float(right / brute_right),
            ">= 0.999",
        ),
        share(f"a search {name}", 1_000 * seconds, 5, "ms", "<= 1"),
    ]


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--creatives", type=int, default=1_000_000)
    parser.add_argument("--searches", type=int, default=2_000)
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    report("A large catalogue", measure(arguments.creatives, arguments.searches), arguments.json)


if __name__ == "__main__":
    main()
