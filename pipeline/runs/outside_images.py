"""Fingerprints that change with every image that a drop's rows name, also with those outside the drop's folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from adclick.components.ad_example_gen.outside_images import read_states, states_now
from adclick.pipeline.drops import Drop
from adclick.pipeline.runs.record import RunRecord

_SEPARATOR = "."


def with_outside_images(drops: Sequence[Drop], records: Sequence[RunRecord]) -> list[Drop]:
    """The drops, with another fingerprint where an image outside the folder is not as the last ingestion found it.

    Which images these are, that ingestion has noted: the rows need not be read again to know them.

    Args:
        drops: From `find_drops`; their fingerprints cover the drops' folders.
        records: The runs so far, the oldest first.
    """
    return [_with_outside_images(drop, records) for drop in drops]


def _with_outside_images(drop: Drop, records: Sequence[RunRecord]) -> Drop:
    for record in reversed(records):
        for month in record.window:
            creatives = record.artifacts.get(f"AdExampleGen-{drop.name}.creatives", [])
            is_same = (month.name, month.uri) == (drop.name, drop.uri) and (
                month.fingerprint.partition(_SEPARATOR)[0] == drop.fingerprint
            )
            if is_same and creatives:
                return replace(drop, fingerprint=_fingerprint(drop, month.fingerprint, creatives))
    return drop


def _fingerprint(drop: Drop, last: str, creatives: Sequence[str]) -> str:
    noted = sorted(state for uri in creatives for state in read_states(uri))
    now = states_now([address for address, _ in noted])
    if [state for _, state in noted] == now:
        return last
    digest = hashlib.sha256()
    for (address, _), state in zip(noted, now, strict=True):
        digest.update(f"{address}\0{state}\n".encode("utf-8", "surrogateescape"))
    return f"{drop.fingerprint}{_SEPARATOR}{digest.hexdigest()[:32]}"
