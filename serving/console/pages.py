"""The pages for people: files that were built from `serving/console/web`, sent as they lie in the package."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from importlib import resources

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

#: The page loads nothing from elsewhere, runs no script but its own, and stands in nobody's frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: By address, the file and its type.
_FILES = {
    "/": ("index.html", "text/html"),
    "/console/app.js": ("app.js", "text/javascript"),
    "/console/app.css": ("app.css", "text/css"),
    "/console/icon.svg": ("icon.svg", "image/svg+xml"),
}
_EXPLORER_FILES = {
    "/docs": ("explorer/index.html", "text/html"),
    "/docs/start.js": ("explorer/start.js", "text/javascript"),
    "/docs/swagger-ui-bundle.js": ("explorer/swagger-ui-bundle.js.gz", "text/javascript"),
    "/docs/swagger-ui.css": ("explorer/swagger-ui.css.gz", "text/css"),
}


def page_routes() -> list[Route]:
    """The routes of the console's files; anyone may ask for them: what they show is asked of the API."""
    return _routes(_FILES)


def explorer_routes() -> list[Route]:
    """The routes of Swagger UI, which shows the API's document and tries it."""
    return _routes(_EXPLORER_FILES)


def _routes(files: Mapping[str, tuple[str, str]]) -> list[Route]:
    folder = resources.files("adclick.serving.console") / "static"
    routes = []
    for path, (name, media_type) in files.items():
        content = folder.joinpath(*name.split("/")).read_bytes()
        compressed = content if name.endswith(".gz") else gzip.compress(content, mtime=0)
        routes.append(Route(path, _File(compressed, media_type), methods=["GET"]))
    return routes


class _File:
    def __init__(self, compressed: bytes, media_type: str) -> None:
        self._compressed = compressed
        self._headers = {
            "etag": f'"{hashlib.sha256(compressed).hexdigest()[:32]}"',
            # A page of before an update is none for the gateway after it.
            "cache-control": "no-cache",
            "content-security-policy": POLICY,
            "content-type": f"{media_type}; charset=utf-8",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
            "vary": "accept-encoding",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope)
        if given.get("if-none-match", "") == self._headers["etag"]:
            response = Response(status_code=304, headers=self._headers)
        elif "gzip" in given.get("accept-encoding", ""):
            response = Response(self._compressed, headers={**self._headers, "content-encoding": "gzip"})
        else:
            response = Response(gzip.decompress(self._compressed), headers=self._headers)
        await response(scope, receive, send)
