"""`adclick status`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def status(
    version: Annotated[
        int | None, typer.Argument(help="A pushed version: the files, config, code, metrics and blessing behind it.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="The config file.")] = None,
    output: Annotated[Path | None, typer.Option(help="The output folder, where no config is given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List runs, pushed versions and what is served; or tell where one version comes from."""
    from adclick.pipeline.runs.status import run_status

    run_status(config, output, version, as_json)
