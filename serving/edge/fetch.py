"""Files from a folder, over HTTP(S) or from Google Cloud Storage; what was cut off goes on (RFC 9110, 13.1.5, 14)."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from .channel import Release
from .errors import BundleRefused, EdgeError
from .google_storage import GENERATION, SCHEME, object_address, read_token

_CHUNK = 1 << 16
#: Answers to a request that goes on, which say that the file is not the one that it began with.
_ANOTHER_FILE = frozenset({404, 416})
_MAY_NOT_READ = "Give --google-token-file with the token of an account that may read the bucket, or make it public."
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d*/(\d+|\*)")


class OutOfReach(EdgeError):
    """A file could not be fetched, or not to its end; a later attempt goes on.

    Attributes:
        exit_code: 5.
    """

    exit_code = 5


def address_of(origin: str, name: str) -> str:
    """The address of a name relative to a folder or to an address that stands for one.

    Raises:
        EdgeError: The address is neither a path nor one of http, https or gs.
    """
    if _is_http(origin):
        address = urljoin(origin.rstrip("/") + "/", name)
    elif "://" in name:
        address = name
    else:
        address = f"{origin.rstrip('/')}/{name}" if _is_google(origin) else os.path.join(origin, name)
    is_remote = _is_http(address) or _is_google(address)
    if not is_remote and ("://" in address or _is_http(origin)):
        raise EdgeError(
            f"{address}: no folder and no address of http, https or gs",
            "Other buckets' objects have one: https://BUCKET.s3.amazonaws.com/….",
        )
    return address


class Fetcher:
    """Fetches files.

    Args:
        certificates: A file of authorities to trust for https instead of the system's.
        timeout_seconds: How long a server may be silent.
        stopped: Asked now and then whether to give up.
        google_token_file: The file of the access token for Google Cloud Storage, read anew for each request; None where
            objects are public.
    """

    def __init__(
        self,
        certificates: Path | None = None,
        timeout_seconds: float = 30.0,
        stopped: Callable[[], bool] = lambda: False,
        google_token_file: Path | None = None,
    ) -> None:
        context = ssl.create_default_context(cafile=str(certificates) if certificates else None)
        self._opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
        self._timeout, self._stopped, self._google_token_file = timeout_seconds, stopped, google_token_file

    def read(self, address: str, limit: int) -> bytes:
        """The content of a small file.

        Raises:
            OutOfReach: It cannot be fetched.
            EdgeError: It is larger than the limit.
        """
        with self._opened(address) as (stream, _, __):
            content = bytes(stream.read(limit + 1))
        if len(content) > limit:
            raise EdgeError(f"{address}: more than {limit} bytes", "Is that the address of a channel's folder?")
        return content

    def fetch(self, address: str, release: Release, part: Path) -> None:
        """Fetches a release's file; what an earlier attempt left in `part` is gone on from.

        Args:
            address: Where it is.
            release: Its size and SHA-256.
            part: Where to write; a note beside it (`.note`) says of what the part is.

        Raises:
            OutOfReach: It was not fetched to its end; the part stays.
            BundleRefused: What is there is another file than the channel says; the part is gone.
        """
        note = part.with_name(f"{part.name}.note")
        begin, validator = _resumable(part, note, release)
        if begin < release.size:
            self._fetch_rest(address, release, part, note, begin, validator)
        size, digest = part.stat().st_size, _sha256(part)
        if size == release.size and digest == release.sha256:
            return
        discard(part)
        what = f"{size} bytes instead of {release.size}" if size != release.size else f"SHA-256 {digest}"
        raise BundleRefused("altered", f"{address}: is not the file that the channel names: {what}", "Publish it anew.")

    def _fetch_rest(self, address: str, release: Release, part: Path, note: Path, begin: int, validator: str) -> None:
        with self._opened(address, begin, validator) as (stream, start, validator):
            # The note is there before the first byte: a part without its note is never gone on from.
            note.write_text(json.dumps({"sha256": release.sha256, "validator": validator}), encoding="utf-8")
            with open(part, "r+b" if start else "wb") as file:
                file.seek(start)
                file.truncate()
                got = start
                while got <= release.size:
                    if self._stopped():
                        raise OutOfReach(f"{address}: given up at {got} of {release.size} bytes")
                    chunk = stream.read(_CHUNK)
                    if not chunk:
                        break
                    file.write(chunk)
                    got += len(chunk)
            # What http.client still expects: an answer that was cut off ends like a whole one.
            if got < release.size and getattr(stream, "length", None):
                raise OutOfReach(f"{address}: cut off at {got} of {release.size} bytes", "A later attempt goes on.")

    @contextmanager
    def _opened(self, address: str, begin: int = 0, validator: str = "") -> Iterator[tuple[Any, int, str]]:
        """A stream, the place in the file at which it starts, and what tells later whether the file is the same."""
        try:
            if not _is_http(address) and not _is_google(address):
                with open(address, "rb") as file:
                    file.seek(begin)
                    yield file, begin, ""
                return
            try:
                answer = self._opener.open(self._request(address, begin, validator), timeout=self._timeout)
            except urllib.error.HTTPError as error:
                if not begin or error.code not in _ANOTHER_FILE:
                    raise
                # What is there ends before the part does, or is another object: from the beginning, then.
                error.close()
                answer = self._opener.open(self._request(address), timeout=self._timeout)
            with answer:
                found = _CONTENT_RANGE.match(answer.headers.get("content-range", ""))
                start = int(found[1]) if answer.status == 206 and found else 0
                if answer.status not in (200, 206) or start not in (0, begin):
                    raise OutOfReach(f"{address}: status {answer.status}, from byte {start}")
                yield answer, start, _validator(address, answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                remedy = _MAY_NOT_READ if _is_google(address) and error.code in (401, 403) else ""
                raise OutOfReach(f"{address}: status {error.code}", remedy) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise OutOfReach(f"{address}: {error or type(error).__name__}") from None

    def _request(self, address: str, begin: int = 0, validator: str = "") -> urllib.request.Request:
        """A request of a file from a byte on, if it still is the file that the validator names."""
        headers = {"range": f"bytes={begin}-"} if begin else {}
        if not _is_google(address):
            if begin and validator:
                headers["if-range"] = validator
            return urllib.request.Request(address, headers=headers)
        request = urllib.request.Request(object_address(address, validator if begin else ""), headers=headers)
        if self._google_token_file is not None:
            # Wherever a redirect leads, the token does not follow.
            request.add_unredirected_header("authorization", f"Bearer {read_token(self._google_token_file)}")
        return request


def discard(part: Path) -> None:
    """Removes what an attempt left."""
    for path in (part.with_name(f"{part.name}.note"), part):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _resumable(part: Path, note: Path, release: Release) -> tuple[int, str]:
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        size = part.stat().st_size
        if known["sha256"] == release.sha256 and size <= release.size:
            return size, str(known["validator"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    discard(part)
    return 0, ""


def _validator(address: str, headers: Message) -> str:
    """What tells later whether a file is the same; empty where nothing does."""
    if _is_google(address):
        return str(headers.get(GENERATION, ""))
    tag = str(headers.get("etag", ""))
    return str(headers.get("last-modified", "")) if not tag or tag.startswith("W/") else tag


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _is_google(address: str) -> bool:
    return address.startswith(SCHEME)


def _is_http(address: str) -> bool:
    return urlsplit(address).scheme in ("http", "https")
