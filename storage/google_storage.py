"""Google Cloud Storage, addressed as gs://bucket/name, through google-cloud-storage: an `ObjectStore`.

Credentials are the application-default ones. Every call is retried on 408, 429, 5xx and broken connections, with
growing pauses, for two minutes; writes too, as each writes the same whole object again. What fails in the end is an
error that says what to do.
"""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adclick.schema.errors import ConfigError
from adclick.storage.object_store import CONNECTIONS, BucketDenied, BucketUnavailable, Object, missing, split

if TYPE_CHECKING:
    from google.cloud import storage

SCHEME = "gs://"

#: A larger object is uploaded resumably, so much at a time; a multiple of 256 KiB as the API wants.
_UPLOAD_BYTES = 16 << 20
_GET, _LIST, _CREATE, _DELETE = (f"storage.objects.{verb}" for verb in ("get", "list", "create", "delete"))
_NAMED_PERMISSION = re.compile(r"storage\.(?:objects|buckets|folders)\.[A-Za-z]+")
_REQUEST = re.compile(r"^[A-Z]+ https?://\S+: ")
_MESSAGE = re.compile(r'"message":\s*"([^"]+)"')


def read(
    address: str, start: int = 0, end: int | None = None, generation: str = "", timeout_seconds: float | None = None
) -> bytes:
    from google.api_core.exceptions import RequestRangeNotSatisfiable

    bucket, name = split(address)
    with _failures(address, _GET):
        try:
            content: bytes = (
                _client()
                .bucket(bucket)
                .blob(name, generation=int(generation) if generation else None)
                .download_as_bytes(
                    start=start or None,
                    end=None if end is None else end - 1,
                    raw_download=True,
                    **_options(timeout_seconds),
                )
            )
        except RequestRangeNotSatisfiable:  # An empty object has no range.
            return b""
    return content


def download(address: str, file: str) -> None:
    with _failures(address, _GET):
        _blob(address).download_to_filename(file, raw_download=True, **_options(None))


def upload(file: str, address: str) -> None:
    blob = _blob(address)
    blob.chunk_size = _UPLOAD_BYTES
    with _failures(address, _CREATE):
        blob.upload_from_filename(file, content_type="application/octet-stream", **_options(None))


def write(address: str, content: bytes) -> None:
    with _failures(address, _CREATE):
        _blob(address).upload_from_string(content, content_type="application/octet-stream", **_options(None))


def write_new(address: str, content: bytes) -> bool:
    from google.api_core.exceptions import PreconditionFailed

    with _failures(address, _CREATE):
        try:
            _blob(address).upload_from_string(
                content, content_type="application/octet-stream", if_generation_match=0, **_options(None)
            )
        except PreconditionFailed:
            return False
    return True


def stat(address: str) -> Object:
    bucket, name = split(address)
    with _failures(address, _GET):
        found = _client().bucket(bucket).get_blob(name, **_options(None))
    if found is None:
        raise missing(address)
    return _object(found)


def list_below(prefix: str, limit: int | None = None) -> Iterator[Object]:
    bucket, name = split(prefix)
    with contextlib.suppress(FileNotFoundError), _failures(prefix, _LIST):
        yield from map(_object, _client().list_blobs(bucket, prefix=name, max_results=limit, **_options(None)))


def list_folder(prefix: str) -> tuple[list[str], list[str]]:
    bucket, name = split(prefix)
    names, folders = list[str](), list[str]()
    with contextlib.suppress(FileNotFoundError), _failures(prefix, _LIST):
        pages = _client().list_blobs(bucket, prefix=name, delimiter="/", **_options(None))
        names = [blob.name for blob in pages]
        folders = list(pages.prefixes)
    return [f"{SCHEME}{bucket}/{each}" for each in names], [f"{SCHEME}{bucket}/{each}" for each in folders]


def delete(address: str) -> None:
    with _failures(address, _DELETE):
        _blob(address).delete(**_options(None))


def _blob(address: str) -> storage.Blob:
    bucket, name = split(address)
    return _client().bucket(bucket).blob(name)


def _object(blob: storage.Blob) -> Object:
    return Object(f"{SCHEME}{blob.bucket.name}/{blob.name}", int(blob.size), str(blob.generation))


def _options(timeout_seconds: float | None) -> dict[str, Any]:
    from google.cloud.storage.retry import DEFAULT_RETRY

    if timeout_seconds is None:
        return {"retry": DEFAULT_RETRY}
    return {"retry": DEFAULT_RETRY.with_timeout(timeout_seconds), "timeout": timeout_seconds}


_STARTING = threading.Lock()


def _client() -> storage.Client:
    # Threads that start together would otherwise each look for credentials.
    with _STARTING:
        return _made_client()


@functools.lru_cache(maxsize=1)
def _made_client() -> storage.Client:
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import storage
    from requests.adapters import HTTPAdapter

    try:
        client = storage.Client(project=None)
    except DefaultCredentialsError as error:
        raise ConfigError(
            f"there are no credentials for Google Cloud: {error}",
            "Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS.",
        ) from None
    # By default a session keeps ten connections and throws others away after each request.
    client._http.mount("https://", HTTPAdapter(pool_maxsize=CONNECTIONS))
    return client


@contextlib.contextmanager
def _failures(address: str, permission: str) -> Iterator[None]:
    """Turns the library's errors into ours."""
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError, RefreshError
    from requests import RequestException

    try:
        yield
    except exceptions.NotFound:
        raise missing(address) from None
    except (exceptions.Forbidden, exceptions.Unauthorized) as error:
        named = _NAMED_PERMISSION.search(error.message)
        needed = named.group() if named else permission
        raise BucketDenied(
            f"{SCHEME}{split(address)[0]}: permission {needed} is denied: {_said(error.message)}",
            "Grant it to the account that runs this: roles/storage.objectViewer reads, roles/storage.objectUser reads "
            "and writes. `gcloud auth application-default login` or GOOGLE_APPLICATION_CREDENTIALS chose the account.",
        ) from error
    except RefreshError as error:
        raise ConfigError(
            f"Google Cloud refuses the credentials: {error.args[0]}",
            "Run `gcloud auth application-default login` again, or correct GOOGLE_APPLICATION_CREDENTIALS.",
        ) from error
    except (exceptions.GoogleAPIError, GoogleAuthError, RequestException) as error:
        raise BucketUnavailable(
            f"{address}: Google Cloud Storage failed: {_said(str(error))}",
            "Run again: finished steps are reused.",
        ) from error


def _said(text: str) -> str:
    """What the service said, of an error's text that may quote the whole answer."""
    message = _MESSAGE.search(text)
    return message.group(1) if message else _REQUEST.sub("", text.partition("\n")[0])[:300]
