"""What the commands for Vertex AI and Kubeflow Pipelines share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def on_platform() -> Iterator[Console]:
    """Keeps what the platforms' libraries print while they load and work out of sight."""
    from importlib.util import find_spec

    from adclick.pipeline.console import noise_to_temporary, result_console
    from adclick.schema.errors import ConfigError

    if find_spec("kfp") is None:
        raise ConfigError("kfp is not installed", "Install adclick with its extra `platforms`.")

    with noise_to_temporary("platform") as real:
        yield result_console(real)
