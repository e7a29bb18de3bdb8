"""What is kept of every example to tell it again: 64-bit hashes beside the examples, a file for each chunk of the drop.

A word holds the hash of all columns but identifier and label, in its last bits the example's split and label; where
the log has an identifier, a second one holds that one's hash. Samples are taken by hash: of a row that is taken, every
copy is taken too, in whatever month it stands.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adclick.storage import filesystem

#: The folder beside the splits.
ROW_HASHES = "row_hashes"

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_LABEL_BITS, _SPLIT_BITS = np.uint64(1), np.uint64(2)
_HASH_MASK = ~np.uint64(7)
#: Knuth's 64-bit multiplier (MMIX): hashes are compared by their first bits.
_MULTIPLIER = np.uint64(6364136223846793005)


@dataclass(frozen=True)
class RowHashes:
    """Examples of a month, or of a part of it.

    Attributes:
        identifiers: uint64 [n], hashes of the identifiers; None for a log without.
        identifier_splits: int64 [n], the split of each.
        contents: uint64 [k], hashes of all columns but identifier and label.
        splits: int64 [k], the split of each, a position in `SPLITS`.
        clicked: bool [k].
        files: int64 [k], the place of each one's file in the drop.
    """

    identifiers: Hashes | None
    identifier_splits: Ints
    contents: Hashes
    splits: Ints
    clicked: Bools
    files: Ints


def write_row_hashes(
    folder: str, chunk_name: str, identifiers: Hashes | None, contents: Hashes, splits: Ints, clicked: Bools
) -> None:
    """Writes the hashes of a chunk's examples; of `contents` the last three bits are lost."""
    words = (contents * _MULTIPLIER) & _HASH_MASK
    words |= (splits.astype(np.uint64) << _LABEL_BITS) | clicked.astype(np.uint64)
    rows = words[None] if identifiers is None else np.stack([words, identifiers])
    content = io.BytesIO()
    np.save(content, rows, allow_pickle=False)
    with filesystem.open_write_atomic(filesystem.join(folder, f"rows-{chunk_name}.npy")) as stream:
        stream.write(content.getvalue())


def read_row_hashes(folder: str, share: float = 1.0) -> RowHashes:
    """Reads the hashes of a month's examples, those of a share of all values."""
    # Below 2^64 where all are taken: nothing is compared.
    limit = None if share >= 1 else np.uint64(share * 2.0**64)
    words, files, identifiers, splits = [], [], [], []
    has_identifiers = False
    for path in filesystem.list_files(folder, ["rows-*.npy"]):
        with filesystem.open_read(path) as stream:
            rows = np.load(io.BytesIO(stream.read()), allow_pickle=False)
        chosen = rows[0] if limit is None else rows[0][rows[0] < limit]
        words.append(chosen)
        files.append(np.full(len(chosen), int(path.rpartition("/")[2].split("-")[1]), np.int64))
        if len(rows) > 1:
            has_identifiers = True
            taken = slice(None) if limit is None else rows[1] < limit
            identifiers.append(rows[1][taken])
            splits.append(_split_of(rows[0][taken]))
    every = np.concatenate(words) if words else np.zeros(0, np.uint64)
    return RowHashes(
        np.concatenate(identifiers) if has_identifiers else None,
        np.concatenate(splits) if has_identifiers else np.zeros(0, np.int64),
        every & _HASH_MASK,
        _split_of(every),
        (every & np.uint64(1)) == 1,
        np.concatenate(files) if files else np.zeros(0, np.int64),
    )


def _split_of(words: Hashes) -> Ints:
    return ((words >> _LABEL_BITS) & (np.uint64(1) << _SPLIT_BITS) - np.uint64(1)).astype(np.int64)
