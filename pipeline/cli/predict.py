"""`adclick predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adclick.pipeline.cli.options import QuietOption


def predict(
    config: Annotated[
        Path | None, typer.Option("--config", help="Takes the push directory, the CSV dialect and the columns from it.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="A running server, such as http://localhost:8501; without it one is started.")
    ] = None,
    model_base_path: Annotated[str | None, typer.Option(help="The push directory, where no config is given.")] = None,
    model_name: Annotated[str | None, typer.Option(help="The model's name; `adclick` by default.")] = None,
    request: Annotated[str | None, typer.Option("--json", help="One JSON object of columns; `-` reads it.")] = None,
    csv: Annotated[
        str | None, typer.Option(help="A CSV or Parquet file, read as the config says; its first row is sent.")
    ] = None,
    row: Annotated[int, typer.Option(min=1, help="which row of the file to send.")] = 1,
    image: Annotated[str | None, typer.Option(help="An image file to send with it.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Send one impression over HTTP and print the probability of a click."""
    from adclick.pipeline.console import noise_to_temporary, result_console

    with noise_to_temporary("predict") as real:
        from adclick.pipeline.prediction.single import run_predict

        run_predict(
            config=config,
            url=url,
            model_base_path=model_base_path,
            model_name=model_name,
            request=request,
            csv=csv,
            row=row,
            image=image,
            quiet=quiet,
            console=result_console(real),
        )
