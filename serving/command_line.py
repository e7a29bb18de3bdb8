"""How a command ends: an error that a person can act on without a traceback, in its own exit code."""

from __future__ import annotations

import atexit
import os
import sys
import warnings
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from adclick.schema.errors import AdclickError, refusal_of_import, refusal_of_system


def run_command_line(app: Callable[[], object], console: Console) -> None:
    """Runs an application of typer's.

    Args:
        app: The application.
        console: Where an error is printed.
    """
    # What libraries will want of their users' next release is no word for who runs a command.
    warnings.filterwarnings("ignore", category=FutureWarning)
    # What TensorFlow's destructors print while the interpreter ends helps nobody.
    atexit.register(os.dup2, os.open(os.devnull, os.O_WRONLY), 2)
    try:
        app()
    except AdclickError as error:
        _print_error(console, error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        refusal = None
        if isinstance(error, OSError):
            refusal = refusal_of_system(error.errno, error.filename)
        elif isinstance(error, ModuleNotFoundError):
            refusal = refusal_of_import(error)
        if refusal is not None:
            _print_error(console, refusal)
            sys.exit(refusal.exit_code)
        if os.environ.get("ADCLICK_TRACEBACK"):
            raise
        console.print(
            Text.assemble(
                ("internal failure:", "bold red"),
                f" {type(error).__name__}: {str(error)[:2000]}\n",
                *(f"{note}\n" for note in getattr(error, "__notes__", ())),
                "ADCLICK_TRACEBACK=1 prints the traceback here.",
            ),
            highlight=False,
        )
        sys.exit(1)


def _print_error(console: Console, error: AdclickError) -> None:
    console.print(Text.assemble(("error:", "bold red"), f" {error.message}"), highlight=False)
    if error.remedy:
        console.print(error.remedy, highlight=False)
