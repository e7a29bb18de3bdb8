"""`adclick api-key`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def api_key(
    name: Annotated[str, typer.Argument(help="Whose key it is, for logs: letters, digits, _, . and -.")],
    file: Annotated[Path, typer.Option(help="The keys file of the gateway; the key's hash is added to it.")],
) -> None:
    """Make an API key for the gateway; it is shown once, and only its hash is kept."""
    from adclick.pipeline.prediction.api_key import run_api_key

    print(run_api_key(name, file))
