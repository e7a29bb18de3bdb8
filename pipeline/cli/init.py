"""`adclick init`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from adclick.pipeline.cli.options import QuietOption
from adclick.pipeline.console import plain_console


def init(
    data: Annotated[
        Path, typer.Argument(help="A CSV or Parquet file, a folder of them, or a folder of month folders.")
    ],
    output: Annotated[Path, typer.Option(help="The folder for config.yaml and schema.pbtxt.")],
    force: Annotated[bool, typer.Option(help="Overwrite an existing config and schema.")] = False,
    label: Annotated[
        str | None, typer.Option(help="The CSV column to predict, where it is not the one that would be found.")
    ] = None,
    positive: Annotated[
        list[str] | None,
        typer.Option(
            help="A text of that column that means a click, where it is written in words of its own; all others mean "
            "none. May be given several times."
        ),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Read a sample of any ad-click log (CSV, Parquet) and write a config and a schema for review."""
    from adclick.pipeline.onboarding import run_init

    result = run_init(data, output, force=force, label=label, positive=positive or ())
    console = plain_console(soft_wrap=True)
    for warning in result.warnings:
        console.print(Text.assemble(("warning:", "yellow"), f" {warning}"), highlight=False)
    if not quiet:
        console.print(f"Wrote {result.config_path} and {result.schema_path}. Review them, then:")
        command = shlex.join(["adclick", "run", "--config", str(result.config_path)])
        console.print(f"  {command}", highlight=False)
