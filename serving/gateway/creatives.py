"""Images of ads: fetched from allowed places only, checked, and embedded once for each content and model version."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np

from adclick.schema.signatures import LONGEST_KEY
from adclick.serving.gateway.errors import GatewayError, invalid
from adclick.serving.gateway.fields import UNSET, Base64
from adclick.serving.gateway.settings import CreativeSettings
from adclick.storage.bucket import is_bucket_address
from adclick.storage.bucket import read as read_object

Embedding = np.ndarray[Any, Any]
#: Embeds images given by key or bytes; returns float32 [images, width].
Embed = Callable[[Sequence[bytes]], Awaitable[Embedding]]

OK = "ok"
NONE = "none"
UNKNOWN_KEY = "unknown_key"
NOT_FETCHED = "not_fetched"
TIMED_OUT = "timed_out"
TOO_LARGE = "too_large"
NOT_AN_IMAGE = "not_an_image"

_KEY_DIGITS = 32
#: Memory for images by address.
_ADDRESS_BYTES = 64_000_000


@dataclass(frozen=True)
class Resolved:
    """An ad's image, ready to be embedded.

    Attributes:
        value: What the model's image input takes: a creative's key, or the bytes of an image; empty for none.
        key: Identifies the content.
        status: `ok`, or why the ad is scored with the unknown creative.
    """

    value: bytes
    key: bytes
    status: str


_NO_IMAGE = Resolved(b"", b"", NONE)


class CreativeMemory:
    """What is remembered of images, whatever the settings: embeddings, contents by address, and what is on its way.

    Attributes:
        embeddings: By a model's version and a content's key, the oldest use first.
        embedding_bytes: Memory of the embeddings.
        pending: Embeddings that a request waits for.
        addresses: By address until when it is taken to hold which image.
        fetching: Addresses that are being read.
        hits: Embeddings that were remembered.
        misses: Embeddings that a model made.
    """

    def __init__(self) -> None:
        self.embeddings: OrderedDict[tuple[int, bytes], Embedding] = OrderedDict()
        self.embedding_bytes = 0
        self.pending: dict[tuple[int, bytes], asyncio.Future[Embedding]] = {}
        self.addresses: OrderedDict[str, tuple[float, Resolved]] = OrderedDict()
        self.fetching: dict[str, asyncio.Task[Resolved]] = {}
        self.hits = 0
        self.misses = 0


class CreativeStore:
    """Resolves the images of requests and remembers their embeddings.

    A creative's key is the first 32 hexadecimal digits of the SHA-256 of its file, as in ingestion, so that an image
    that the model was trained on needs no decoding, however it comes.

    Args:
        settings: Which images are taken.
        memory: What is remembered of them.
    """

    def __init__(self, settings: CreativeSettings, memory: CreativeMemory) -> None:
        self.memory = memory
        self._settings = settings

    async def resolve(self, images: Sequence[Any]) -> list[Resolved]:
        """What to embed for each of a request's images.

        Args:
            images: For each ad UNSET, None, a key, an address, or `Base64`.

        Raises:
            GatewayError: An address is not allowed, or bytes are not an image that is small enough.
        """
        resolved: list[Resolved | None] = []
        fetches: dict[int, asyncio.Task[Resolved]] = {}
        for index, image in enumerate(images):
            if image is UNSET or not image:
                resolved.append(_NO_IMAGE)
            elif isinstance(image, Base64):
                resolved.append(await self._from_request(image.b64, index))
            elif _is_address(image):
                self._check_allowed(image, index)
                known = self._known_address(image)
                if known is None:
                    fetches[index] = self._fetch_once(image)
                resolved.append(known)
            else:
                resolved.append(_from_key(image, index))
        for index, task in fetches.items():
            resolved[index] = await asyncio.shield(task)
        return [one if one is not None else _NO_IMAGE for one in resolved]

    async def embed(self, version: int, resolved: Sequence[Resolved], embed: Embed) -> Embedding:
        """The embeddings of images, float32 [images, width]; each content is embedded once for a version."""
        keys = [(version, one.key) for one in resolved]
        remembered = [self.memory.embeddings.get(key) for key in keys]
        if all(embedding is not None for embedding in remembered):
            for key in set(keys):
                self.memory.embeddings.move_to_end(key)
            self.memory.hits += len(keys)
            return np.array(remembered)
        wanted: dict[tuple[int, bytes], bytes] = {}
        waiting: dict[tuple[int, bytes], asyncio.Future[Embedding]] = {}
        found: dict[tuple[int, bytes], Embedding] = {}
        for key, one in zip(keys, resolved, strict=True):
            if key in found or key in wanted or key in waiting:
                continue
            cached = self.memory.embeddings.get(key)
            if cached is not None:
                self.memory.embeddings.move_to_end(key)
                self.memory.hits += 1
                found[key] = cached
            elif key in self.memory.pending:
                waiting[key] = self.memory.pending[key]
            else:
                self.memory.misses += 1
                wanted[key] = one.value
        if wanted:
            found |= await self._embed_new(wanted, embed)
        for key, future in waiting.items():
            try:
                found[key] = await asyncio.shield(future)
            except asyncio.CancelledError:
                raise
            except Exception:
                # The other request failed; this one may still have time.
                value = next(one.value for one, other in zip(resolved, keys, strict=True) if other == key)
                found |= await self._embed_new({key: value}, embed)
        return np.stack([found[key] for key in keys])

    async def _embed_new(self, wanted: dict[tuple[int, bytes], bytes], embed: Embed) -> dict[Any, Embedding]:
        loop = asyncio.get_running_loop()
        for key in wanted:
            self.memory.pending[key] = loop.create_future()
        try:
            embedded = await embed(list(wanted.values()))
        except BaseException as error:
            for key in wanted:
                future = self.memory.pending.pop(key)
                future.set_exception(error if isinstance(error, Exception) else RuntimeError("given up"))
                future.exception()  # Nobody may be waiting; that is no fault to be logged.
            raise
        found = {}
        for key, row in zip(wanted, embedded, strict=True):
            # A row of its own: a view would keep the whole batch alive.
            found[key] = row.copy()
            self.memory.pending.pop(key).set_result(found[key])
            self._remember(key, found[key])
        return found

    def _remember(self, key: tuple[int, bytes], embedding: Embedding) -> None:
        self.memory.embeddings[key] = embedding
        self.memory.embedding_bytes += embedding.nbytes
        while self.memory.embedding_bytes > self._settings.cache_bytes and self.memory.embeddings:
            _, oldest = self.memory.embeddings.popitem(last=False)
            self.memory.embedding_bytes -= oldest.nbytes

    async def _from_request(self, encoded: bytes, index: int) -> Resolved:
        place = f"ads[{index}].image"
        if len(encoded) > self._settings.max_bytes:
            raise GatewayError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "image_too_large",
                f"An image has at most {self._settings.max_bytes:,} bytes, not {len(encoded):,}",
                field=place,
            )
        checked = await asyncio.to_thread(self._checked, encoded)
        if checked.status != OK:
            raise invalid(f"The image's bytes cannot be used: {checked.status}", place)
        return checked

    def _checked(self, encoded: bytes) -> Resolved:
        from adclick.models.images import CorruptImage, OversizedImage, check_whole, inspect_image, to_decodable

        key = hashlib.sha256(encoded).hexdigest()[:_KEY_DIGITS].encode()
        try:
            inspect_image(encoded, self._settings.max_pixels)
            decodable = to_decodable(encoded)
            if decodable is encoded:  # What was converted was decoded.
                check_whole(decodable)
            return Resolved(decodable, key, OK)
        except OversizedImage:
            return Resolved(b"", b"", TOO_LARGE)
        except CorruptImage:
            return Resolved(b"", b"", NOT_AN_IMAGE)

    def _known_address(self, address: str) -> Resolved | None:
        until, resolved = self.memory.addresses.get(address, (0.0, _NO_IMAGE))
        return resolved if time.monotonic() < until else None

    def _fetch_once(self, address: str) -> asyncio.Task[Resolved]:
        task = self.memory.fetching.get(address)
        if task is None:
            task = self.memory.fetching[address] = asyncio.ensure_future(self._fetch(address))
            task.add_done_callback(lambda _: self.memory.fetching.pop(address, None))
        return task

    async def _fetch(self, address: str) -> Resolved:
        try:
            encoded = await asyncio.wait_for(
                asyncio.to_thread(_read, address, self._settings.max_bytes, self._settings.timeout_seconds),
                self._settings.timeout_seconds,
            )
        except TimeoutError:
            return Resolved(b"", b"", TIMED_OUT)
        except Exception:  # Whatever the store's library raises: the ad is scored without its image, and it says so.
            return Resolved(b"", b"", NOT_FETCHED)
        if len(encoded) > self._settings.max_bytes:
            resolved = Resolved(b"", b"", TOO_LARGE)
        else:
            resolved = await asyncio.to_thread(self._checked, encoded)
        # With its bytes: the embedding may have been forgotten, or be of another version.
        self.memory.addresses[address] = (time.monotonic() + self._settings.address_seconds, resolved)
        self.memory.addresses.move_to_end(address)
        while (
            len(self.memory.addresses) > 1
            and sum(len(one.value) for _, one in self.memory.addresses.values()) > _ADDRESS_BYTES
        ):
            self.memory.addresses.popitem(last=False)
        return resolved

    def _check_allowed(self, address: str, index: int) -> None:
        if any(_is_below(address, place) for place in self._settings.allowed):
            return
        raise GatewayError(
            HTTPStatus.FORBIDDEN,
            "image_not_allowed",
            f"{address} is in none of the folders and buckets that creatives.allowed names",
            field=f"ads[{index}].image",
        )


def _is_address(text: str) -> bool:
    return "://" in text or text.startswith("/")


def _from_key(key: str, index: int) -> Resolved:
    encoded = key.encode("utf-8", "replace")
    if len(encoded) > LONGEST_KEY:
        raise invalid(
            f"A creative's key has at most {LONGEST_KEY} bytes; an address begins with /, gs:// or s3://",
            f"ads[{index}].image",
        )
    return Resolved(encoded, encoded, OK)


def _is_below(address: str, place: str) -> bool:
    if is_bucket_address(address) or is_bucket_address(place):
        return ".." not in address.split("/") and address.startswith(place.rstrip("/") + "/")
    if "://" in address:
        if not address.startswith("file://"):
            return False
        address = address.removeprefix("file://")
    # Links and `..` are followed before the places are compared.
    real, allowed = os.path.realpath(address), os.path.realpath(place)
    return os.path.commonpath([real, allowed]) == allowed


def _read(address: str, max_bytes: int, timeout_seconds: float) -> bytes:
    """The file, or of a file that is too large one byte more than allowed."""
    if is_bucket_address(address):
        return read_object(address, max_bytes + 1, timeout_seconds)
    with Path(os.path.realpath(address.removeprefix("file://"))).open("rb") as stream:
        return stream.read(max_bytes + 1)
