"""Errors of Beam workers: whatever a worker raised reaches the pipeline as text, inside another error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from models import bucket
from schema import errors
from schema.errors import AdclickError

_RAISED = re.compile(
    r"^(?:\w+Error: )?(?P<module>schema\.errors|models\.bucket)\.(?P<name>\w+): (?P<message>.+)\n?(?P<remedy>.*)", re.M
)
_STEP = re.compile(r" \[while running .*")


@contextmanager
def readable_worker_errors() -> Iterator[None]:
    """Raises an `AdclickError` that a worker raised as what it was, with its message, remedy and exit code."""
    try:
        yield
    except AdclickError:
        raise
    except Exception as error:
        found = adclick_error(str(error))
        if found is None:
            raise
        raise found from error


def adclick_error(text: str) -> AdclickError | None:
    """The last `AdclickError` that a traceback tells of; None if there is none."""
    found = list(_RAISED.finditer(text))
    if not found:
        return None
    last = found[-1]
    kind = getattr(errors if last["module"] == errors.__name__ else bucket, last["name"], None)
    if not isinstance(kind, type) or not issubclass(kind, AdclickError):
        return None
    remedy = "" if last["remedy"].startswith(("Traceback", " ")) else _STEP.sub("", last["remedy"])
    return kind(_STEP.sub("", last["message"]), remedy)
