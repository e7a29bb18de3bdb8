"""What an object store must be able to do, and the errors by which it tells what it could not."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from adclick.schema.errors import AdclickError, ConfigError

#: Requests of this process that may be under way at once.
CONNECTIONS = 64


class BucketDenied(ConfigError):
    """The account may not do this in a bucket; the message names the permission that it lacks."""


class BucketUnavailable(AdclickError):
    """A store did not answer as it should, however often it was asked."""


@dataclass(frozen=True)
class Object:
    """What is known of an object without reading it.

    Attributes:
        address: Its address.
        size: Bytes.
        generation: Another text for another content.
    """

    address: str
    size: int
    generation: str


class ObjectStore(Protocol):
    """Whole objects by their addresses. Every call is tried again where that may help, for two minutes.

    Raises, from each function:
        FileNotFoundError: There is no such object, or no such bucket.
        BucketDenied: The account may not.
        ConfigError: There are no credentials, or wrong ones.
        BucketUnavailable: The store failed.
    """

    def read(self, address: str, start: int, end: int | None, generation: str, timeout_seconds: float | None) -> bytes:
        """The bytes of an object from `start` to before `end`, as far as it has any.

        Args:
            address: The object.
            start: The first byte.
            end: The byte after the last; None for the object's end.
            generation: Which content is meant: none if another is there by now; any if empty.
            timeout_seconds: How long one answer may take, and all attempts together; two minutes if None.
        """

    def download(self, address: str, file: str) -> None:
        """Writes an object to a local file."""

    def upload(self, file: str, address: str) -> None:
        """Writes a local file to an object, which is seen whole or not at all."""

    def write(self, address: str, content: bytes) -> None:
        """Writes an object, which is seen whole or not at all."""

    def write_new(self, address: str, content: bytes) -> bool:
        """Writes an object if there is none of its name; gives whether there was none."""

    def stat(self, address: str) -> Object:
        """Size and generation of an object."""

    def list_below(self, prefix: str, limit: int | None = None) -> Iterator[Object]:
        """The objects whose addresses begin so, or the first `limit`, sorted by name; none where there is no bucket."""

    def list_folder(self, prefix: str) -> tuple[list[str], list[str]]:
        """Addresses of the objects that begin so and have no slash after it, and of folders: up to the next slash."""

    def delete(self, address: str) -> None:
        """Deletes an object."""


def split(address: str) -> tuple[str, str]:
    """The bucket and the object's name of an address."""
    bucket, _, name = address.partition("://")[2].partition("/")
    return bucket, name


def missing(address: str) -> FileNotFoundError:
    """The error for an object that is not there."""
    return FileNotFoundError(errno.ENOENT, "no such object", address)
