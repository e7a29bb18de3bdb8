"""The images that a drop's rows name and that lie outside its folder, so that a look at the folder misses their change.

They are reached by `../`, by an absolute address, through a link to a folder, or beside a drop that is a single file.
Ingestion notes the state in which it found each; a later run compares.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from adclick.storage import filesystem
from adclick.storage.bucket import is_bucket_address

#: Beside the creatives, a file for each partition that has such images: JSON lines of address and state.
PATTERN = "outside_images-*.jsonl"
_THREADS = 32


class DropFolder:
    """Tells which addresses the fingerprint of a drop's folder covers."""

    def __init__(self, drop_uri: str, *, is_folder: bool = True) -> None:
        self._is_folder = is_folder
        self._root = drop_uri.rstrip("/") + "/"
        self._real = os.path.realpath(drop_uri)
        self._known: dict[str, bool] = {}

    def covers(self, address: str) -> bool:
        """Whether a file below the drop's folder has this address, without passing a link to another folder."""
        if not self._is_folder:
            return False
        if "://" in address or "://" in self._root:
            return address.startswith(self._root) and ".." not in address.split("/")
        parent = os.path.dirname(address)
        if "\0" in parent:  # No file can be there.
            return True
        if parent not in self._known:
            real = os.path.realpath(parent)
            self._known[parent] = real == self._real or real.startswith(self._real + os.sep)
        return self._known[parent]


def write_states(path: str, states: Iterable[tuple[str, str]]) -> None:
    """Writes addresses with their states."""
    with filesystem.open_write_atomic(path) as stream:
        for state in states:
            stream.write(json.dumps(state).encode() + b"\n")


def read_states(creatives_uri: str) -> Iterator[tuple[str, str]]:
    """The addresses that ingestion noted, with their states; none where the folder is gone."""
    if not filesystem.isdir(creatives_uri) and not is_bucket_address(creatives_uri):
        return
    for path in filesystem.list_files(creatives_uri, [PATTERN]):
        with filesystem.open_read(path) as stream:
            for line in stream.read().splitlines():
                address, state = json.loads(line)
                yield address, state


def states_now(addresses: list[str]) -> list[str]:
    """The states of files, in the order of their addresses."""
    if not any(map(is_bucket_address, addresses)):
        return [filesystem.state(address) for address in addresses]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(filesystem.state, addresses))
