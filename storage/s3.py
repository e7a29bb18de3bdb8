"""S3, and what speaks its protocol, addressed as s3://bucket/name, through boto3: an `ObjectStore`.

Credentials, region and another store's address are had as every AWS program has them: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, a profile, or the role of the pod or machine.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from typing import Any

from adclick.schema.errors import ConfigError
from adclick.storage.object_store import CONNECTIONS, BucketDenied, BucketUnavailable, Object, missing, split

SCHEME = "s3://"

_GET, _LIST, _PUT, _DELETE = "s3:GetObject", "s3:ListBucket", "s3:PutObject", "s3:DeleteObject"
#: Pauses of at most 20 s between them: some two minutes.
_ATTEMPTS = 10
_BODY_ATTEMPTS = 4
_TIMEOUT_SECONDS = 60.0
_DEFAULT_REGION = "us-east-1"
_ABSENT = {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}
_DENIED = {"403", "AccessDenied", "Forbidden", "AllAccessDisabled", "401", "Unauthorized"}
_WRONG_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
}
_CHANGED = {"412", "PreconditionFailed"}
#: Two who wrote an object at once are both told so; it is there for neither or for one.
_CONFLICT = {"409", "ConditionalRequestConflict"}


def read(
    address: str, start: int = 0, end: int | None = None, generation: str = "", timeout_seconds: float | None = None
) -> bytes:
    bucket, name = split(address)
    asked: dict[str, Any] = {"Range": f"bytes={start}-{'' if end is None else end - 1}"} if start or end else {}
    if generation:
        asked["IfMatch"] = generation
    with _failures(address, _GET):
        try:
            found, content = _get(
                _client(timeout_seconds), 1 if timeout_seconds else _BODY_ATTEMPTS, bucket, name, asked
            )
        except _client_error() as error:
            if _code(error) in ("416", "InvalidRange"):  # An empty object has no range.
                return b""
            raise
    # Not every store heeds the condition.
    if generation and found != generation:
        raise missing(address)
    return content


def _get(client: Any, attempts: int, bucket: str, name: str, asked: dict[str, Any]) -> tuple[str, bytes]:
    """ETag and bytes of an object. The library asks again where no answer comes, but not where one breaks off."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError
    from urllib3.exceptions import HTTPError

    while True:
        attempts -= 1
        answer = client.get_object(Bucket=bucket, Key=name, **asked)
        try:
            with answer["Body"] as stream:
                return str(answer["ETag"]), stream.read()
        except (HTTPError, HTTPClientError, IncompleteReadError):
            if attempts <= 0:
                raise


def download(address: str, file: str) -> None:
    bucket, name = split(address)
    with _failures(address, _GET), open(file, "wb") as stream:
        _client().download_fileobj(bucket, name, stream)


def upload(file: str, address: str) -> None:
    bucket, name = split(address)
    with _failures(address, _PUT), open(file, "rb") as stream:
        _client().upload_fileobj(stream, bucket, name, ExtraArgs={"ContentType": "application/octet-stream"})


def write(address: str, content: bytes) -> None:
    bucket, name = split(address)
    with _failures(address, _PUT):
        _client().put_object(Bucket=bucket, Key=name, Body=content, ContentType="application/octet-stream")


def write_new(address: str, content: bytes) -> bool:
    bucket, name = split(address)
    with _failures(address, _PUT):
        for _ in range(_ATTEMPTS):
            try:
                _client().put_object(
                    Bucket=bucket, Key=name, Body=content, ContentType="application/octet-stream", IfNoneMatch="*"
                )
            except _client_error() as error:
                if _code(error) in _CHANGED:
                    return False
                if _code(error) not in _CONFLICT:
                    raise
            else:
                return True
    return False


def stat(address: str) -> Object:
    bucket, name = split(address)
    with _failures(address, _GET):
        found = _client().head_object(Bucket=bucket, Key=name)
    return Object(address, int(found["ContentLength"]), str(found["ETag"]))


def list_below(prefix: str, limit: int | None = None) -> Iterator[Object]:
    bucket, name = split(prefix)
    with contextlib.suppress(FileNotFoundError), _failures(prefix, _LIST):
        pages = (
            _client()
            .get_paginator("list_objects_v2")
            .paginate(
                Bucket=bucket,
                Prefix=name,
                PaginationConfig={} if limit is None else {"MaxItems": limit, "PageSize": limit},
            )
        )
        for page in pages:
            for found in page.get("Contents", []):
                yield Object(f"{SCHEME}{bucket}/{found['Key']}", int(found["Size"]), str(found["ETag"]))


def list_folder(prefix: str) -> tuple[list[str], list[str]]:
    bucket, name = split(prefix)
    names, folders = list[str](), list[str]()
    with contextlib.suppress(FileNotFoundError), _failures(prefix, _LIST):
        for page in _client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=name, Delimiter="/"):
            names += [found["Key"] for found in page.get("Contents", [])]
            folders += [found["Prefix"] for found in page.get("CommonPrefixes", [])]
    return [f"{SCHEME}{bucket}/{each}" for each in names], [f"{SCHEME}{bucket}/{each}" for each in folders]


def delete(address: str) -> None:
    bucket, name = split(address)
    with _failures(address, _DELETE):
        _client().delete_object(Bucket=bucket, Key=name)


_STARTING = threading.Lock()


def _client(timeout_seconds: float | None = None) -> Any:
    # Threads that start together would otherwise each look for credentials.
    with _STARTING:
        return _made_client(timeout_seconds)


@functools.lru_cache(maxsize=8)
def _made_client(timeout_seconds: float | None) -> Any:
    import boto3
    from botocore.config import Config

    attempts, seconds = (_ATTEMPTS, _TIMEOUT_SECONDS) if timeout_seconds is None else (1, timeout_seconds)
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=seconds,
        read_timeout=seconds,
        max_pool_connections=CONNECTIONS,
        # Older releases of other stores know no checksums but their own.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    with _failures(SCHEME, _GET):
        session = boto3.session.Session()
        # Unlike AWS's other programs, boto3 reads AWS_DEFAULT_REGION alone. Only AWS itself has regions.
        region = os.environ.get("AWS_REGION") or session.region_name or _DEFAULT_REGION
        try:
            return session.client("s3", region_name=region, config=config)
        except ValueError as error:
            raise ConfigError(f"S3's address or region is none: {error}", "Correct AWS_ENDPOINT_URL.") from error


def _client_error() -> type[Exception]:
    from botocore.exceptions import ClientError

    kind: type[Exception] = ClientError
    return kind


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def _failures(address: str, permission: str) -> Iterator[None]:
    """Turns the library's errors into ours."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        PartialCredentialsError,
        ProfileNotFound,
    )
    from s3transfer.exceptions import RetriesExceededError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        code, said = _code(error), str(error.response.get("Error", {}).get("Message") or error)
        if code in _ABSENT or code in _CHANGED:
            raise missing(address) from None
        if code in _WRONG_CREDENTIALS:
            raise ConfigError(
                f"{SCHEME}{split(address)[0]}: the store refuses the credentials: {code}: {said}",
                "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what else gives them; AWS_ENDPOINT_URL names "
                "another store than AWS's.",
            ) from error
        if code in _DENIED:
            raise BucketDenied(
                f"{SCHEME}{split(address)[0]}: permission {permission} is denied: {said}",
                "Grant it to the account that runs this: s3:GetObject and s3:ListBucket to read, s3:PutObject and "
                "s3:DeleteObject to write. Where listing is denied, an object that is not there is denied too.",
            ) from error
        raise BucketUnavailable(
            f"{address}: S3 failed: {code}: {said}", "Run again: finished steps are reused."
        ) from error
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound) as error:
        raise ConfigError(
            f"there are no credentials for S3: {error}",
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where a role gives them.",
        ) from error
    except (BotoCoreError, RetriesExceededError, HTTPError) as error:
        raise BucketUnavailable(
            f"{address}: S3 failed: {error}", "Check AWS_ENDPOINT_URL and the network, then run again."
        ) from error
