"""The state of features on disk, in RocksDB."""

from __future__ import annotations

from pathlib import Path

from adclick.schema.errors import ConfigError

_POSITION = b"\xff\xffposition"
_MEGABYTE = 1 << 20


class RocksState:
    """A store in a folder. A commit is one atomic batch; after a crash of the process the last one is there.

    Nothing is synchronised with the disk: after a crash of the machine the store may stand at an earlier commit, never
    between two.
    """

    def __init__(self, folder: Path) -> None:
        """Opens a folder, or makes it.

        Raises:
            ConfigError: It cannot be opened, or another process has it open.
        """
        from rocksdict import BlockBasedOptions, Cache, Options, Rdict

        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(32 * _MEGABYTE)
        options.set_max_write_buffer_number(2)
        options.set_max_open_files(256)
        options.set_keep_log_file_num(2)
        table = BlockBasedOptions()
        table.set_block_cache(Cache(64 * _MEGABYTE))
        table.set_bloom_filter(10, False)
        options.set_block_based_table_factory(table)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = Rdict(str(folder), options)
        except Exception as error:  # rocksdict raises Exception itself.
            raise ConfigError(
                f"{folder}: the state of features cannot be opened: {error}",
                "Let no other process use it; if it is damaged, delete it and go through the history anew.",
            ) from None
        self._pending: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        if key in self._pending:
            return self._pending[key]
        return self._db.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self._pending[key] = value

    def delete(self, key: bytes) -> None:
        self._pending[key] = None

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        cursor = self._db.iter()
        cursor.seek(after)
        if cursor.valid() and cursor.key() == after:
            cursor.next()
        while len(found) < limit and cursor.valid():
            found.append((cursor.key(), cursor.value()))
            cursor.next()
        return found

    def commit(self, position: bytes) -> None:
        from rocksdict import WriteBatch

        batch = WriteBatch(raw_mode=True)
        for key, value in self._pending.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(_POSITION, position)
        self._db.write(batch)
        self._pending.clear()

    def discard(self) -> None:
        self._pending.clear()

    def position(self) -> bytes | None:
        return self._db.get(_POSITION)

    def close(self) -> None:
        """Closes the folder for others; what is pending is lost."""
        self._pending.clear()
        self._db.close()
