"""Who may ask how much: API keys, kept hashed, and rates."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from limits import parse_many
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from adclick.serving.errors import InvalidArgumentError, NotFoundError
from adclick.serving.gateway.errors import GatewayError

_PREFIX = "adclick_"
_LINE = re.compile(r"(?P<name>[A-Za-z0-9_.-]{1,64}) (?P<digest>[0-9a-f]{64})")


def create_api_key(name: str) -> tuple[str, str]:
    """Draws an API key.

    Args:
        name: Whose it is, for logs: letters, digits, `_`, `.` and `-`.

    Returns:
        The key, which is shown once, and the line of the keys file, which holds only its hash. A key has 256 random
        bits, so that a fast hash is enough: there is nothing to guess.

    Raises:
        InvalidArgumentError: The name is not of that form.
    """
    key = _PREFIX + secrets.token_urlsafe(32)
    line = f"{name} {_digest(key)}"
    if not _LINE.fullmatch(line):
        raise InvalidArgumentError(f"the name of an API key is letters, digits, _, . and -, at most 64: not {name!r}")
    return key, line


def read_api_keys(path: Path) -> dict[str, str]:
    """Reads a keys file: the hash of each key by its owner's name. Empty lines and those that begin with # count not.

    Raises:
        NotFoundError: The file cannot be read.
        InvalidArgumentError: A line is not of the form `NAME SHA256`, or a name stands twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NotFoundError(f"{path}: {reason}; `adclick api-key` writes such a file") from error
    keys: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or match["name"] in keys:
            raise InvalidArgumentError(f"{path}, line {number}: not NAME SHA256 with a name of its own")
        keys[match["name"]] = match["digest"]
    return keys


def authenticate(keys: Mapping[str, str], authorization: str) -> str:
    """The owner of the API key in an `Authorization: Bearer KEY` header.

    Raises:
        GatewayError: There is none, or it is unknown.
    """
    digest = _digest_of(authorization)
    if digest:
        owner = ""
        # Every key is compared, in constant time, so that the time tells nothing about which ones are near.
        for name, known in keys.items():
            if hmac.compare_digest(digest, known):
                owner = name
        if owner:
            return owner
    raise _unauthenticated()


def authenticate_device(devices: Mapping[str, str], authorization: str) -> str:
    """The device whose key stands in an `Authorization: Bearer KEY` header.

    There may be thousands, so that the hash is looked up. The time of that tells of the hash of what was sent, which
    nobody can choose so that it comes near another's.

    Args:
        devices: Names by the hashes of keys.
        authorization: The header.

    Raises:
        GatewayError: There is none, or it is unknown.
    """
    device = devices.get(_digest_of(authorization), "")
    if not device:
        raise _unauthenticated()
    return device


def _digest_of(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    return _digest(key.strip()) if scheme.lower() == "bearer" and key.strip() else ""


def _unauthenticated() -> GatewayError:
    return GatewayError(
        HTTPStatus.UNAUTHORIZED,
        "unauthenticated",
        "Give a valid API key in the header `Authorization: Bearer KEY`",
    )


class RateLimiter:
    """Counts the requests of each client.

    Args:
        rate: Such as `100/second;100000/day`; no limit if empty.
    """

    def __init__(self, rate: str) -> None:
        self._limits = parse_many(rate) if rate else []
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def check(self, client: str) -> None:
        """Counts a request.

        Raises:
            GatewayError: It is one too many.
        """
        for limit in self._limits:
            if not self._limiter.hit(limit, client):
                raise GatewayError(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    "rate_limited",
                    f"More than {limit} from one client",
                    retry_after_seconds=max(1, min(limit.get_expiry(), 60)),
                )


def keyed_hash(key: bytes, value: str) -> str:
    """A hash that tells two values apart, but cannot be turned back without the key; 16 hexadecimal digits."""
    return hmac.new(key, value.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:16]


def read_hash_key(path: Path | None) -> bytes:
    """The secret of `keyed_hash`; a random one if there is no file.

    Raises:
        NotFoundError: The file cannot be read.
        InvalidArgumentError: It holds fewer than 16 bytes.
    """
    if path is None:
        return secrets.token_bytes(32)
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        message = f"{path}: {error.strerror}; `openssl rand -hex 32` writes such a secret"
        raise NotFoundError(message) from error
    if len(key) < 16:
        raise InvalidArgumentError(f"{path}: a secret has at least 16 bytes; write 32 random ones")
    return key


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
