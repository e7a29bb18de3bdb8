"""Taking over changed settings without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path

from adclick.serving.errors import ServingError
from adclick.serving.gateway.backends import Backend
from adclick.serving.gateway.metrics import GatewayMetrics
from adclick.serving.gateway.settings import RELOADABLE, GatewaySettings, load_settings
from adclick.serving.gateway.snapshot import Keys, Snapshot, Snapshots, next_snapshot, read_keys

logger = logging.getLogger(__name__)

#: So long the versions of settings that have been replaced stay ready for requests that began under them.
_RETIRED_WITHIN_SECONDS = 60.0


class Reloader:
    """Looks whether the settings' files have changed, and then puts another snapshot in the place of the one before.

    Args:
        snapshots: Where the snapshot of now is.
        settings_file: The file that the settings came from; None for settings that stay.
        backend: Where the models run.
        metrics: Where reloads are counted.

    Attributes:
        error: Why the last change was not taken over; empty if it was.
    """

    def __init__(
        self, snapshots: Snapshots, settings_file: Path | None, backend: Backend, metrics: GatewayMetrics
    ) -> None:
        self.error = ""
        self._snapshots = snapshots
        self._settings_file = settings_file
        self._backend = backend
        self._metrics = metrics
        #: Snapshots that were replaced, and when, whose versions are still ready.
        self._replaced: list[tuple[float, Snapshot]] = []
        self._read_at = self._files_state()

    async def look(self) -> None:
        """Takes over what has changed; settings that are wrong change nothing, and are told."""
        state = await asyncio.to_thread(self._files_state)
        if state != self._read_at:
            self._read_at = state
            try:
                await self._reload()
            except ServingError as error:
                self.error = error.message
                self._metrics.reloads.labels("refused").inc()
                logger.error("the settings stay as they were: %s", error.message)
            else:
                self.error = ""
                self._metrics.reloads.labels("taken").inc()
                logger.info("took over the changed settings")
        if self._replaced:
            await self._retire()

    async def _reload(self) -> None:
        before = self._snapshots.current
        settings, keys = await asyncio.to_thread(self._read, before.settings)
        after = next_snapshot(before, settings, keys)
        if after.settings.routing != before.settings.routing:
            # What requests that have begun ask stays until they have ended.
            self._replaced.append((time.monotonic(), before))
            await self._route(after, *(snapshot for _, snapshot in self._replaced))
        # What is known of the versions is there before it is asked for.
        await after.models.refresh_all(dict.fromkeys([*after.router.targets, *before.router.targets]))
        self._snapshots.current = after

    def _read(self, before: GatewaySettings) -> tuple[GatewaySettings, Keys]:
        """The settings and the keys of now; of the settings that need a restart, those before."""
        settings = load_settings(self._settings_file) if self._settings_file is not None else before
        keys = read_keys(before)
        changed = {name for name in GatewaySettings.model_fields if getattr(settings, name) != getattr(before, name)}
        if rest := sorted(changed - set(RELOADABLE)):
            logger.warning("these settings need a restart: %s", ", ".join(rest))
        return before.model_copy(update={name: getattr(settings, name) for name in RELOADABLE}), keys

    async def _retire(self) -> None:
        """Frees the versions that only replaced snapshots name, once no request goes by those."""
        oldest = time.monotonic() - _RETIRED_WITHIN_SECONDS
        kept = [
            (since, snapshot)
            for since, snapshot in self._replaced
            if since > oldest and self._snapshots.is_in_use(snapshot)
        ]
        if len(kept) < len(self._replaced):
            await self._route(self._snapshots.current, *(snapshot for _, snapshot in kept))
            self._replaced = kept

    async def _route(self, current: Snapshot, *others: Snapshot) -> None:
        """Makes the versions of snapshots ready; where they name a label for two versions, the current one's counts."""
        routings = [snapshot.settings.routing for snapshot in (*others, current)]
        labels = {label: version for routing in routings for label, version in routing.labels.items()}
        await asyncio.to_thread(self._backend.route, labels, frozenset().union(*(one.versions for one in routings)))

    def _files_state(self) -> tuple[tuple[str, int, int], ...]:
        """Sizes and times of the files that the settings come from."""
        settings = self._snapshots.current.settings
        state = []
        for file in (self._settings_file, settings.security.api_keys_file, settings.edge.device_keys_file):
            if file is not None:
                with contextlib.suppress(OSError):
                    status = file.stat()
                    state.append((str(file), status.st_size, status.st_mtime_ns))
        return tuple(state)
