"""Objects of Google Cloud Storage, addressed as gs://bucket/name, through google-cloud-storage.

Credentials are the application-default ones. Every call is retried on 408, 429, 5xx and broken connections, with
growing pauses, for two minutes; writes too, as each writes the same whole object again. What fails in the end is an
error that says what to do.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import re
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from schema.errors import AdclickError, ConfigError

if TYPE_CHECKING:
    from google.cloud import storage

SCHEME = "gs://"
#: Requests of this process that may be under way at once.
CONNECTIONS = 64

_READ_BYTES = 8 << 20
#: A larger object is uploaded resumably, so much at a time; a multiple of 256 KiB as the API wants.
_UPLOAD_BYTES = 16 << 20
_DELETING_THREADS = 16
_GET, _LIST, _CREATE, _DELETE = (f"storage.objects.{verb}" for verb in ("get", "list", "create", "delete"))
_NAMED_PERMISSION = re.compile(r"storage\.(?:objects|buckets|folders)\.[A-Za-z]+")
_REQUEST = re.compile(r"^[A-Z]+ https?://\S+: ")
_MESSAGE = re.compile(r'"message":\s*"([^"]+)"')


class BucketDenied(ConfigError):
    """The account may not do this in a bucket; the message names the permission that it lacks."""


class BucketUnavailable(AdclickError):
    """Google Cloud Storage did not answer as it should, however often it was asked."""


@dataclass(frozen=True)
class Object:
    """What is known of an object without reading it.

    Attributes:
        address: Its gs:// address.
        size: Bytes.
        generation: Changes with every write of it.
    """

    address: str
    size: int
    generation: int


def is_bucket_address(path: str) -> bool:
    """Whether the address begins with gs://."""
    return path.startswith(SCHEME)


def read(address: str, limit: int | None = None, timeout_seconds: float | None = None) -> bytes:
    """Reads an object.

    Args:
        address: The object.
        limit: At most so many bytes of its beginning.
        timeout_seconds: How long one answer may take, and all attempts together; the library's defaults if None.

    Raises:
        FileNotFoundError: There is no such object.
        BucketDenied: The account may not read it.
        BucketUnavailable: It could not be read.
    """
    blob = _blob(address)
    options = _options(timeout_seconds)
    with _failures(address, _GET):
        return _range(blob, 0, limit, options)


def open_read(address: str) -> BinaryIO:
    """Opens an object as it is now; if it is replaced or removed meanwhile, reading on fails.

    Raises:
        FileNotFoundError: There is no such object; also from reading, if it has vanished.
        BucketDenied: The account may not read it.
        BucketUnavailable: It could not be read.
    """
    return io.BufferedReader(_ObjectReader(stat(address)), _READ_BYTES)  # type: ignore[return-value]


class _ObjectReader(io.RawIOBase):
    """One generation of an object."""

    def __init__(self, found: Object) -> None:
        super().__init__()
        bucket, name = _split(found.address)
        self._blob = _client().bucket(bucket).blob(name, generation=found.generation)
        self._found = found
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._found.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._found.size - self._position)
        if count <= 0:
            return 0
        with _failures(self._found.address, _GET):
            content = _range(self._blob, self._position, self._position + count, _options(None))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


def _range(blob: storage.Blob, start: int, end: int | None, options: dict[str, Any]) -> bytes:
    from google.api_core.exceptions import RequestRangeNotSatisfiable

    try:
        content: bytes = blob.download_as_bytes(
            start=start or None, end=None if end is None else end - 1, raw_download=True, **options
        )
    except RequestRangeNotSatisfiable:  # An empty object has no range.
        return b""
    return content


def upload(file: str, address: str) -> None:
    """Writes a local file to an object, which is seen whole or not at all; a large one resumably.

    Raises:
        BucketDenied: The account may not write it.
        BucketUnavailable: It could not be written.
    """
    blob = _blob(address)
    blob.chunk_size = _UPLOAD_BYTES
    with _failures(address, _CREATE):
        blob.upload_from_filename(file, content_type="application/octet-stream", **_options(None))


def write(address: str, content: bytes) -> None:
    """Writes an object, which is seen whole or not at all; for errors see `upload`."""
    with _failures(address, _CREATE):
        _blob(address).upload_from_string(content, content_type="application/octet-stream", **_options(None))


def stat(address: str) -> Object:
    """Size and generation of an object.

    Raises:
        FileNotFoundError: There is no such object.
        BucketDenied: The account may not read it.
        BucketUnavailable: The bucket could not be asked.
    """
    found = None
    if _split(address)[1]:
        with _failures(address, _GET):
            bucket, name = _split(address)
            found = _client().bucket(bucket).get_blob(name, **_options(None))
    if found is None:
        raise _missing(address)
    return _object(found)


def is_object(address: str) -> bool:
    """Whether there is an object of this name; for errors see `stat`."""
    with contextlib.suppress(FileNotFoundError):
        stat(address)
        return True
    return False


def is_folder(address: str) -> bool:
    """Whether anything lies below the name."""
    return any(True for _ in _list(_prefix(address), max_results=1))


def objects_below(address: str) -> Iterator[Object]:
    """Every object below the name, however deep, sorted by name; markers of empty folders are none."""
    return (_object(blob) for blob in _list(_prefix(address)) if not blob.name.endswith("/"))


def list_folder(address: str) -> tuple[list[str], list[str]]:
    """Names of the objects and of the folders directly below the name, sorted."""
    bucket, prefix = _split(_prefix(address))
    names, folders = list[str](), list[str]()
    with contextlib.suppress(FileNotFoundError), _failures(address, _LIST):
        pages = _client().list_blobs(bucket, prefix=prefix, delimiter="/", **_options(None))
        names = [blob.name[len(prefix) :] for blob in pages]
        folders = [name[len(prefix) :].rstrip("/") for name in pages.prefixes]
    return sorted(name for name in names if name), sorted(folders)


def delete(address: str) -> None:
    """Deletes an object and everything below its name; it may be gone already.

    A SavedModel's own file goes first, so that no server takes what is left for a whole version.
    """
    bucket, name = _split(address)
    names = [blob.name for blob in _list(_prefix(address))] + ([name] if name else [])
    firsts = [each for each in names if each.endswith("/saved_model.pb")]
    for some in (firsts, [each for each in names if each not in set(firsts)]):
        with ThreadPoolExecutor(_DELETING_THREADS) as pool:
            list(pool.map(functools.partial(_delete_one, bucket), some))


def _delete_one(bucket: str, name: str) -> None:
    with contextlib.suppress(FileNotFoundError), _failures(f"{SCHEME}{bucket}/{name}", _DELETE):
        _client().bucket(bucket).blob(name).delete(**_options(None))


def check_writable(folder: str) -> None:
    """Writes an object below a folder and deletes it: the way to know that a run will not fail after an hour.

    Raises:
        BucketDenied: The account may not write, list or delete there.
        BucketUnavailable: The bucket could not be asked.
        ConfigError: There is no such bucket.
    """
    address = f"{folder.rstrip('/')}/.adclick-{uuid.uuid4().hex}"
    try:
        write(address, b"")
        is_folder(folder)
    except FileNotFoundError:
        raise ConfigError(
            f"{folder}: there is no bucket {_split(folder)[0]}", "Make the bucket, or correct the config."
        ) from None
    _delete_one(*_split(address))


def _split(address: str) -> tuple[str, str]:
    bucket, _, name = address.removeprefix(SCHEME).partition("/")
    return bucket, name


def _prefix(address: str) -> str:
    """The address with the slash that what lies below begins with."""
    return address.rstrip("/") + "/"


def _blob(address: str) -> storage.Blob:
    bucket, name = _split(address)
    return _client().bucket(bucket).blob(name)


def _object(blob: storage.Blob) -> Object:
    return Object(f"{SCHEME}{blob.bucket.name}/{blob.name}", int(blob.size), int(blob.generation))


def _list(address: str, max_results: int | None = None) -> Iterator[storage.Blob]:
    bucket, prefix = _split(address)
    with contextlib.suppress(FileNotFoundError), _failures(address, _LIST):
        yield from _client().list_blobs(bucket, prefix=prefix, max_results=max_results, **_options(None))


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


def _missing(address: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "no such object", address)


@contextlib.contextmanager
def _failures(address: str, permission: str) -> Iterator[None]:
    """Turns the library's errors into ours."""
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError, RefreshError
    from requests import RequestException

    try:
        yield
    except exceptions.NotFound:
        raise _missing(address) from None
    except (exceptions.Forbidden, exceptions.Unauthorized) as error:
        named = _NAMED_PERMISSION.search(error.message)
        missing = named.group() if named else permission
        raise BucketDenied(
            f"{SCHEME}{_split(address)[0]}: permission {missing} is denied: {_said(error.message)}",
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
