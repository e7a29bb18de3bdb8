"""Which version answers whom."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from adclick.serving.gateway.settings import RoutingSettings


@dataclass(frozen=True)
class Target:
    """A version that is asked.

    Attributes:
        name: The route's name; `default` where there are none.
        label: The label of the version; the newest if neither this nor a version is given.
        version: The version's number.
    """

    name: str = "default"
    label: str | None = None
    version: int | None = None


class Router:
    """Sends each user to a version, always the same one for the same settings."""

    def __init__(self, settings: RoutingSettings) -> None:
        self._settings = settings
        self._bounds: list[tuple[float, Target]] = []
        bound = 0.0
        for route in settings.routes:
            bound += route.percent
            self._bounds.append((bound, Target(route.name, route.label, route.version)))
        shadow = settings.shadow
        self.shadow = Target("shadow", shadow.label, shadow.version) if shadow is not None else None

    @property
    def targets(self) -> tuple[Target, ...]:
        """Every version that is asked, the shadow included."""
        answering = tuple(target for _, target in self._bounds) or (Target(),)
        return (*answering, self.shadow) if self.shadow is not None else answering

    @property
    def by(self) -> str:
        """The field that decides."""
        return self._settings.by

    def route(self, user: str) -> Target:
        """The version for a user; at random where there is no user."""
        if not self._bounds:
            return Target()
        place = _percentile(self._settings.salt, user) if user else random.random() * 100
        return next((target for bound, target in self._bounds if place < bound), self._bounds[-1][1])

    def is_shadowed(self) -> bool:
        """Whether this request is sent to the shadow, too."""
        shadow = self._settings.shadow
        return shadow is not None and random.random() * 100 < shadow.percent


def _percentile(salt: str, user: str) -> float:
    """A number in [0, 100) that depends on nothing but the salt and the user."""
    digest = hashlib.blake2b(f"{salt}\0{user}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 * 100
