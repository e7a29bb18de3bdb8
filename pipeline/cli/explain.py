"""`adclick explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def explain(
    config: Annotated[
        Path | None, typer.Option("--config", help="Takes the push directory, the CSV dialect and the columns from it.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="A running gateway, such as http://localhost:8080; without it one is started.")
    ] = None,
    api_key: Annotated[str | None, typer.Option(envvar="ADCLICK_API_KEY", help="The gateway's API key.")] = None,
    model_base_path: Annotated[str | None, typer.Option(help="The push directory, where no config is given.")] = None,
    request: Annotated[str | None, typer.Option("--request", help="One JSON object of columns; `-` reads it.")] = None,
    csv: Annotated[
        str | None, typer.Option(help="A CSV or Parquet file, read as the config says; its first row is explained.")
    ] = None,
    row: Annotated[int, typer.Option(min=1, help="which row of the file to explain.")] = 1,
    image: Annotated[str | None, typer.Option(help="An image file to explain with it.")] = None,
    heat_map: Annotated[
        Path | None, typer.Option(help="Where to write the image with what each part of it adds, as PNG.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what each column, and each part of the image, adds to the click probability of one impression."""
    from adclick.pipeline.console import noise_to_temporary, result_console

    with noise_to_temporary("explain") as real:
        from adclick.pipeline.prediction.explanation import run_explain

        run_explain(
            config=config,
            url=url,
            api_key=api_key,
            model_base_path=model_base_path,
            request=request,
            csv=csv,
            row=row,
            image=image,
            heat_map=heat_map,
            as_json=as_json,
            console=result_console(real),
        )
