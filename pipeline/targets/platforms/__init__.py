"""The platforms that runs are submitted to: one is a file here, and a line of `PLATFORMS`."""

from __future__ import annotations

from adclick.pipeline.config.target import Target
from adclick.pipeline.targets.platforms.kubeflow import Kubeflow
from adclick.pipeline.targets.platforms.platform import Platform
from adclick.pipeline.targets.platforms.vertex import Vertex

PLATFORMS: tuple[Platform, ...] = (Vertex(), Kubeflow())


def platform_of(target: Target) -> Platform:
    """The platform of a name."""
    (platform,) = (each for each in PLATFORMS if each.name == target)
    return platform
