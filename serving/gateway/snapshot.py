"""What answers a request: settings and what is made of them, one frozen snapshot from its first byte to its last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from adclick.serving.gateway.backends import Backend
from adclick.serving.gateway.creatives import CreativeMemory, CreativeStore
from adclick.serving.gateway.errors import invalid
from adclick.serving.gateway.routing import Router, Target
from adclick.serving.gateway.security import RateLimiter, read_api_keys
from adclick.serving.gateway.served import ServedModel, ServedModels
from adclick.serving.gateway.settings import GatewaySettings


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Settings and what is made of them.

    Attributes:
        settings: The settings.
        api_keys: The hash of each API key by its owner's name; None where no keys are asked for.
        device_keys: The name of each device by its key's hash; None where no keys are asked for.
        router: Which version answers whom.
        limiter: The requests of each client.
        models: What is known of the versions that the router names.
        creatives: The images of requests.
    """

    settings: GatewaySettings
    api_keys: Mapping[str, str] | None
    device_keys: Mapping[str, str] | None
    router: Router
    limiter: RateLimiter
    models: ServedModels
    creatives: CreativeStore

    def first_target(self, route: str) -> Target:
        """The route by whose version's fields requests are read: the one of that name, or the first if it is empty.

        Raises:
            GatewayError: There is no route of that name.
        """
        targets = self.router.targets
        named = next((target for target in targets if target.name == route), None) if route else targets[0]
        if named is None:
            raise invalid(f"there is no route {route!r}; there are {', '.join(each.name for each in targets)}", "route")
        return named

    async def first_model(self, route: str = "") -> ServedModel:
        """The version of `first_target`.

        Raises:
            GatewayError: There is none, or no route of that name.
        """
        return await self.models.get(self.first_target(route))


@dataclass(frozen=True)
class Keys:
    """Who may ask.

    Attributes:
        api: The hash of each API key by its owner's name; None where no keys are asked for.
        devices: The name of each device by its key's hash; None where no keys are asked for.
    """

    api: Mapping[str, str] | None
    devices: Mapping[str, str] | None


def read_keys(settings: GatewaySettings) -> Keys:
    """Reads the files of keys.

    Raises:
        NotFoundError, InvalidArgumentError: One cannot be read.
    """
    api_file, device_file = settings.security.api_keys_file, settings.edge.device_keys_file
    api = read_api_keys(api_file) if api_file is not None else None
    if device_file is not None:
        return Keys(api, {digest: name for name, digest in read_api_keys(device_file).items()})
    # Where users need keys, a device without one is nobody.
    return Keys(api, None if api is None else {})


def first_snapshot(settings: GatewaySettings, keys: Keys, backend: Backend) -> Snapshot:
    """The snapshot that a gateway starts with."""
    return Snapshot(
        settings,
        keys.api,
        keys.devices,
        Router(settings.routing),
        RateLimiter(settings.limits.rate),
        ServedModels(backend, settings.limits, settings.backend.model_base_path),
        CreativeStore(settings.creatives, CreativeMemory()),
    )


def next_snapshot(before: Snapshot, settings: GatewaySettings, keys: Keys) -> Snapshot:
    """The snapshot of changed settings; what they leave as it is, such as the counts of a rate, is taken over."""
    keeps_limits = settings.limits == before.settings.limits
    return Snapshot(
        settings,
        keys.api,
        keys.devices,
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
