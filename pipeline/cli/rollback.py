"""`adclick rollback`."""

from __future__ import annotations

from typing import Annotated

import typer

from adclick.pipeline.cli.options import ConfigOption


def rollback(
    config: ConfigOption,
    version: Annotated[
        int | None, typer.Argument(help="The version to serve; the one before the served one by default.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; it is kept.")] = None,
    release: Annotated[
        bool, typer.Option("--release", help="End a roll-back: serve what was held, and let pushes through.")
    ] = False,
) -> None:
    """Serve an earlier version at once; what later runs bless is held back until the roll-back is released."""
    from adclick.pipeline.runs.rollback import run_rollback

    print(run_rollback(config, version, reason, release))
