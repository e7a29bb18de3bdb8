"""The reference of the commands, derived from these.

`python -m adclick.pipeline.cli.reference` writes it to docs/commands.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from adclick.pipeline.cli.app import app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"


def commands_page() -> str:
    """Every command with its arguments and options and their meaning, as a page of Markdown."""
    lines = ["<!-- written by `python -m adclick.pipeline.cli.reference` -->", "", "# Commands", ""]
    lines += ["What `adclick COMMAND --help` says, of all commands; help says the defaults besides.", ""]
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        lines += _sections(f"adclick {name}", command)
    return "\n".join(lines).rstrip() + "\n"


def _sections(path: str, command: Any) -> Iterator[str]:
    """The section of a command; of a group, also those of its commands."""
    if command.hidden:
        return
    yield from (f"## {path}", "", _text(command.help), "")
    parameters = [parameter for parameter in command.params if not parameter.hidden]
    if parameters:
        yield from ("| argument or option | required | meaning |", "|---|---|---|")
        yield from (_row(parameter) for parameter in parameters)
        yield ""
    for name, child in getattr(command, "commands", {}).items():
        yield from _sections(f"{path} {name}", child)


def _row(parameter: Any) -> str:
    is_argument = parameter.param_type_name == "argument"
    names = [parameter.name.upper()] if is_argument else [*parameter.opts, *parameter.secondary_opts]
    shown = ", ".join(f"`{name}`" for name in names)
    return f"| {shown} | {'yes' if parameter.required else ''} | {_text(parameter.help)} |"


def _text(help_text: str | None) -> str:
    return " ".join((help_text or "").split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(commands_page(), encoding="utf-8")
