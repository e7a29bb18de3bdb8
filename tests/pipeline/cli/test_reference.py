"""The page of the commands is that of the commands that there are."""

from __future__ import annotations

from adclick.pipeline.cli.app import COMMANDS
from adclick.pipeline.cli.reference import PAGE, commands_page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == commands_page(), (
        "run: .venv/bin/python -m adclick.pipeline.cli.reference"
    )


def test_every_command_and_option_says_what_it_means() -> None:
    lines = commands_page().splitlines()
    commands = [line for line in lines if line.startswith("## ")]
    rows = [line for line in lines if line.startswith("| `")]
    assert len(commands) > len(COMMANDS)
    assert len(rows) > len(commands)
    assert all(lines[lines.index(command) + 2].strip() for command in commands)
    assert all(row.rstrip("| ").rsplit("|", 1)[1].strip() for row in rows)
