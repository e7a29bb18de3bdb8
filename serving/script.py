"""How a console script's process ends: in order as far as Python goes, and without the end of native libraries."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

#: CPython's code where what was printed cannot be written (`Py_FinalizeEx`).
_UNWRITTEN = 120


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Runs a console script's main function and ends the process as the interpreter would, short of its destruction.

    Threads are waited for, `atexit`'s functions run and streams are flushed; then the process is over. What remains of
    an ordinary end destroys TensorFlow, Arrow and gRPC below threads of theirs that still run, and now and then aborts
    a process that has done all its work. `multiprocessing` ends its children the same way.

    Args:
        main: Returns the exit code, None for 0, or raises `SystemExit`.
    """
    try:
        code = _exit_code(main())
    except SystemExit as end:
        code = _exit_code(end.code)
    except Exception:
        sys.excepthook(*sys.exc_info())
        code = 1
    try:
        threading._shutdown()  # type: ignore[attr-defined]
    except BaseException:
        # What a signal raises ends the waiting alone, as it does in an ordinary end.
        sys.excepthook(*sys.exc_info())
    atexit._run_exitfuncs()
    os._exit(code if _all_is_written() else _UNWRITTEN)


def _exit_code(value: object) -> int:
    """The code of what `sys.exit` takes: a number, None for success, or what to print of a failure."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value & 0xFF
    _tell(str(value))
    return 1


def _all_is_written() -> bool:
    """Writes what was printed and is still in memory; False where nobody takes it."""
    is_written = True
    # Those of the start, too, where others stand in their place; None where the process was started without.
    for stream in dict.fromkeys((sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__)):
        if stream is not None and not stream.closed:
            try:
                stream.flush()
            except Exception as error:
                is_written = False
                _tell(f"what was printed cannot be written: {type(error).__name__}: {error}")
    return is_written


def _tell(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(Exception):
            print(text, file=sys.stderr, flush=True)
