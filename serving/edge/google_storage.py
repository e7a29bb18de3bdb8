"""Objects of Google Cloud Storage by its JSON API over HTTPS, without Google's packages.

https://cloud.google.com/storage/docs/json_api/v1/objects/get, with `alt=media`. Public objects need nothing; others an
access token of OAuth 2.0 in a file, which whoever renews it replaces.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from .errors import EdgeError

SCHEME = "gs://"
#: What names the state of an object; asked for with it, another state is not found.
GENERATION = "x-goog-generation"
_HOST = "https://storage.googleapis.com"
_TOKEN = re.compile(rb"[\x21-\x7e]+")
_MAXIMUM_TOKEN_BYTES = 16_384


def object_address(address: str, generation: str = "") -> str:
    """Where an object's content is.

    Args:
        address: `gs://BUCKET/OBJECT`.
        generation: Of the object; any if empty.

    Raises:
        EdgeError: The address names no object.
    """
    bucket, _, name = address.removeprefix(SCHEME).partition("/")
    if not bucket or not name:
        raise EdgeError(f"{address}: no object of a bucket", "Give gs://BUCKET/FOLDER.")
    where = f"{_HOST}/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}?alt=media"
    return f"{where}&generation={quote(generation, safe='')}" if generation else where


def read_token(file: Path) -> str:
    """The access token in a file.

    Raises:
        EdgeError: There is none.
    """
    try:
        with open(file, "rb") as stream:
            token = stream.read(_MAXIMUM_TOKEN_BYTES + 1).strip()
    except OSError as error:
        raise EdgeError(f"{file}: cannot be read: {error.strerror}", "Name the access token's file.") from None
    if len(token) > _MAXIMUM_TOKEN_BYTES or not _TOKEN.fullmatch(token):
        raise EdgeError(f"{file}: holds no access token", "Write one there: gcloud auth print-access-token > FILE")
    return token.decode()
