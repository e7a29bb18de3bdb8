"""What answers a request: settings and what is made of them, one frozen snapshot from its first byte to its last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from serving.gateway.backends import Backend
from serving.gateway.creatives import CreativeMemory, CreativeStore
from serving.gateway.routing import Router
from serving.gateway.security import RateLimiter
from serving.gateway.served import ServedModel, ServedModels
from serving.gateway.settings import GatewaySettings


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Settings and what is made of them.

    Attributes:
        settings: The settings.
        api_keys: The hash of each API key by its owner's name; None where no keys are asked for.
        router: Which version answers whom.
        limiter: The requests of each client.
        models: What is known of the versions that the router names.
        creatives: The images of requests.
    """

    settings: GatewaySettings
    api_keys: Mapping[str, str] | None
    router: Router
    limiter: RateLimiter
    models: ServedModels
    creatives: CreativeStore

    async def first_model(self) -> ServedModel:
        """The version by whose fields requests are read.

        Raises:
            GatewayError: There is none.
        """
        return await self.models.get(self.router.targets[0])


def first_snapshot(settings: GatewaySettings, api_keys: Mapping[str, str] | None, backend: Backend) -> Snapshot:
    """The snapshot that a gateway starts with."""
    return Snapshot(
        settings,
        api_keys,
        Router(settings.routing),
        RateLimiter(settings.limits.rate),
        ServedModels(backend, settings.limits, settings.backend.model_base_path),
        CreativeStore(settings.creatives, CreativeMemory()),
    )


def next_snapshot(before: Snapshot, settings: GatewaySettings, api_keys: Mapping[str, str] | None) -> Snapshot:
    """The snapshot of changed settings; what they leave as it is, such as the counts of a rate, is taken over."""
    keeps_limits = settings.limits == before.settings.limits
    return Snapshot(
        settings,
        api_keys,
        Router(settings.routing),
        before.limiter if keeps_limits else RateLimiter(settings.limits.rate),
        before.models if keeps_limits else before.models.under(settings.limits),
        CreativeStore(settings.creatives, before.creatives.memory),
    )


class Snapshots:
    """The snapshot of now, and which requests still go by one before it. Of one event loop."""

    def __init__(self, first: Snapshot) -> None:
        self.current = first
        self._requests: Counter[Snapshot] = Counter()

    def acquire(self) -> Snapshot:
        """The snapshot for a request that begins; `release` when it ends."""
        snapshot = self.current
        self._requests[snapshot] += 1
        return snapshot

    def release(self, snapshot: Snapshot) -> None:
        """Ends a request that goes by a snapshot."""
        self._requests[snapshot] -= 1
        if not self._requests[snapshot]:
            del self._requests[snapshot]

    def is_in_use(self, snapshot: Snapshot) -> bool:
        """Whether requests go by a snapshot."""
        return snapshot in self._requests
