"""What served versions keep of the rows they were judged by, read from the push directory when first asked for."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

from adclick.models.held_out import HELD_OUT_FILE, HeldOut
from adclick.serving.gateway.fields import RequestForm
from adclick.serving.gateway.served import ServedModel, content_of, extra_path
from adclick.serving.gateway.settings import LimitSettings

logger = logging.getLogger(__name__)

_VERSIONS = 4
#: Without their audiences they are small.
_FACTS = 200


@dataclass(frozen=True)
class Judged:
    """A version with what it keeps of its held-out rows.

    Attributes:
        model: The version. Its form takes times of any year, as those of its own rows are past ones.
        held_out: What it keeps.
        contexts: The audience, each row as a request's context and its ad's own values.
    """

    model: ServedModel
    held_out: HeldOut
    contexts: tuple[Any, ...]


@dataclass(frozen=True)
class Nothing:
    """A version that keeps nothing of its held-out rows.

    Attributes:
        reason: Why.
    """

    reason: str


@dataclass(frozen=True)
class Facts:
    """What a version keeps, without its audience.

    Attributes:
        held_out: What it keeps, with no audience.
        audience_rows: How many rows the audience has.
    """

    held_out: HeldOut
    audience_rows: int


class HeldOutRows:
    """Reads what versions keep, and remembers it for those that were asked for last.

    Args:
        base_path: The push directory; nowhere if empty.
    """

    def __init__(self, base_path: str) -> None:
        self._base_path = base_path
        self._known: OrderedDict[tuple[int, RequestForm], Judged] = OrderedDict()
        self._facts: OrderedDict[str, Facts] = OrderedDict()

    async def of(self, model: ServedModel) -> Judged | Nothing:
        """What a version keeps."""
        key = model.version, model.form
        known = self._known.get(key)
        if known is None:
            read = await asyncio.to_thread(self._read, model)
            # What cannot be read now may be read later.
            if isinstance(read, Nothing):
                return read
            known = self._known[key] = read
            while len(self._known) > _VERSIONS:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return known

    def facts(self, folder: str, version: int) -> Facts | Nothing:
        """What a version keeps, without its audience; takes a moment where it was not asked for before.

        Args:
            folder: Where versions lie: the push directory, or where held or withdrawn ones are.
            version: The version's number.
        """
        path = extra_path(folder, version, HELD_OUT_FILE)
        known = self._facts.get(path)
        if known is None:
            held_out = _held_out(path, version)
            if isinstance(held_out, Nothing):
                return held_out
            known = Facts(held_out.model_copy(update={"audience": ()}), len(held_out.audience))
            self._facts[path] = known
            while len(self._facts) > _FACTS:
                self._facts.popitem(last=False)
        return known

    def _read(self, model: ServedModel) -> Judged | Nothing:
        if not self._base_path:
            return Nothing("this gateway does not know the push directory: set backend.model_base_path")
        path = extra_path(self._base_path, model.version, HELD_OUT_FILE)
        held_out = _held_out(path, model.version)
        if isinstance(held_out, Nothing):
            return held_out
        try:
            form = RequestForm(model.form.fields, LimitSettings(past_days=None, future_days=None))
            return Judged(replace(model, form=form), held_out, tuple(form.contexts(held_out.audience)))
        except Exception as error:  # Whatever it is: the version is served, and says what it is served without.
            logger.warning("%s cannot be read", path, exc_info=True)
            return Nothing(f"{path}: {type(error).__name__}: {error}")


def _held_out(path: str, version: int) -> HeldOut | Nothing:
    try:
        content = content_of(path)
        if content is None:
            return Nothing(f"version {version} was pushed without its held-out rows; later ones have them")
        return HeldOut.from_bytes(content)
    except Exception as error:  # Whatever it is: the version is served, and says what it is served without.
        logger.warning("%s cannot be read", path, exc_info=True)
        return Nothing(f"{path}: {type(error).__name__}: {error}")
