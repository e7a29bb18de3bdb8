"""Errors of Beam workers: whatever a worker raised reaches the pipeline as text, inside another error."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from adclick.schema import errors
from adclick.schema.errors import AdclickError, refusal_of_system
from adclick.storage import object_store

_RAISED = re.compile(
    r"^(?:\w+Error: )?(?P<module>adclick\.(?:schema\.errors|storage\.object_store))\.(?P<name>\w+): (?P<message>.+)"
    r"\n?(?P<remedy>.*)",
    re.M,
)
_SYSTEM = re.compile(r"\[Errno (?P<number>\d+)\] [^\n:]+: (?P<quote>['\"])(?P<path>[^\n]+?)(?P=quote)")
_NUMBERS = {os.strerror(number): number for number in errno.errorcode}
_TENSORFLOW = re.compile(rf"(?P<path>/[^\n;]+); (?P<what>{'|'.join(map(re.escape, _NUMBERS))})")
_STEP = re.compile(r" \[while running .*")


@contextmanager
def readable_worker_errors() -> Iterator[None]:
    """Raises an `AdclickError` that a worker raised as what it was, with its message, remedy and exit code.

    So it does where the system refused a worker a file or folder.
    """
    try:
        yield
    except AdclickError:
        raise
    except Exception as error:
        found = adclick_error(str(error)) or _refusal(error)
        if found is None:
            raise
        raise found from error


def _refusal(error: Exception) -> AdclickError | None:
    """What the system refused, of an error of its own or of one that tells of it."""
    if isinstance(error, OSError) and (found := refusal_of_system(error.errno, error.filename)) is not None:
        return found
    text = str(error)
    if told := _SYSTEM.search(text):
        return refusal_of_system(int(told["number"]), told["path"])
    if told := _TENSORFLOW.search(text):
        return refusal_of_system(_NUMBERS[told["what"]], told["path"])
    return None


def adclick_error(text: str) -> AdclickError | None:
    """The last `AdclickError` that a traceback tells of; None if there is none."""
    found = list(_RAISED.finditer(text))
    if not found:
        return None
    last = found[-1]
    kind = getattr(errors if last["module"] == errors.__name__ else object_store, last["name"], None)
    if not isinstance(kind, type) or not issubclass(kind, AdclickError):
        return None
    remedy = "" if last["remedy"].startswith(("Traceback", " ")) else _STEP.sub("", last["remedy"])
    return kind(_STEP.sub("", last["message"]), remedy)
