"""Options that commands share, and what they tell while they wait."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adclick.pipeline.config.target import Target
from adclick.pipeline.console import plain_console

ConfigOption = Annotated[Path, typer.Option("--config", help="The config file.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print results and errors only, for logs.")]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait while another process works in the output folder, instead of ending.")
]
TargetOption = Annotated[Target, typer.Option(help="The platform.")]
MonthOption = Annotated[
    str, typer.Option(help="The newest month (YYYY-MM) to train on; `latest` is the newest there is.")
]
WindowOption = Annotated[int, typer.Option(min=0, help="How many months train the model; data.window if 0.")]


def tell(text: str) -> None:
    plain_console(stderr=True, soft_wrap=True).print(text, highlight=False)
