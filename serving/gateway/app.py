"""The gateway as a FastAPI application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import Code, InvalidArgumentError, ServingError
from serving.gateway.backends import Backend
from serving.gateway.creatives import OK, UNKNOWN_KEY, CreativeStore, Resolved
from serving.gateway.errors import GatewayError, invalid, overloaded, too_slow
from serving.gateway.explanation import EXPLANATION, HEAT_MAP, explanation_of, heat_map_of, is_shown
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.openapi import documentation_page, openapi_document
from serving.gateway.prediction_log import Prediction, PredictionLog
from serving.gateway.routing import Router, Target
from serving.gateway.security import RateLimiter, authenticate, keyed_hash, read_api_keys, read_hash_key
from serving.gateway.served import (
    CLICK_PROBABILITY,
    CREATIVE_EMBEDDING,
    EMBED_CREATIVE,
    EXPLAIN,
    SCORE,
    SERVING_DEFAULT,
    ServedModel,
    ServedModels,
)
from serving.gateway.settings import RELOADABLE, GatewaySettings, load_settings

logger = logging.getLogger(__name__)
access_logger = logging.getLogger("adclick.access")

_REFRESH_SECONDS = 1.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_ANONYMOUS = "anonymous"
_FAULT = GatewayError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "The gateway is at fault; its log says more")
Array = np.ndarray[Any, Any]


@dataclass
class _Exchange:
    """What is noted of a request while it is answered."""

    endpoint: str
    request_id: str
    started: float = field(default_factory=time.monotonic)
    client: str = ""
    user: str = ""
    ads: int = 0
    versions: set[int] = field(default_factory=set)
    routes: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Scored:
    """The answer to one context."""

    target: Target
    version: int
    probabilities: Array
    statuses: list[str]
    columns: Mapping[str, Array]
    keys: list[bytes]


class Gateway:
    """Answers requests for scores.

    Args:
        settings: The settings.
        backend: Where the models run.
        settings_file: The file that the settings came from; its changes are taken over. None for settings that stay.
        is_open: Whether anyone may ask, for development.

    Raises:
        NotFoundError, InvalidArgumentError: The API keys or the secret of the hashes cannot be read.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        backend: Backend,
        *,
        settings_file: Path | None = None,
        is_open: bool = False,
    ) -> None:
        security = settings.security
        if not is_open and security.api_keys_file is None and security.client_authority_file is None:
            raise InvalidArgumentError(
                "anyone could ask: set security.api_keys_file or security.client_authority_file, or start in "
                "development mode on this machine alone"
            )
        self.settings = settings
        self.metrics = GatewayMetrics()
        self._backend = backend
        self._settings_file = settings_file
        self._is_open = is_open
        self._hash_key = read_hash_key(settings.log.hash_key_file)
        self._api_keys = read_api_keys(security.api_keys_file) if security.api_keys_file is not None else None
        self._creatives = CreativeStore(settings.creatives)
        self._router = Router(settings.routing)
        self._limiter = RateLimiter(settings.limits.rate)
        self._models = ServedModels(backend, settings.limits, settings.backend.model_base_path)
        self._log: PredictionLog | None = None
        self._shadowed: asyncio.Queue[tuple[Any, Array]] = asyncio.Queue(
            settings.routing.shadow.queue if settings.routing.shadow is not None else 1
        )
        self._in_flight = 0
        self._reload_error = ""
        self._read_at = self._settings_state()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keeps what is known of models and settings up to date, for the length of an `async with` block."""
        if self.settings.log.predictions is not None:
            self._log = PredictionLog(self.settings.log, self._hash_key, self.metrics)
        routing = self.settings.routing
        await asyncio.to_thread(self._backend.route, routing.labels, routing.versions)
        await self._models.refresh_all(self._router.targets)
        tasks = [asyncio.create_task(self._keep_up_to_date()), asyncio.create_task(self._ask_shadow())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._log is not None:
                await asyncio.to_thread(self._log.close)
            await self._backend.close()

    # Answering.

    async def score(self, request: Request) -> Response:
        """`POST /v1/score`."""
        return await self._answer("score", request, self._score)

    async def score_batch(self, request: Request) -> Response:
        """`POST /v1/score:batch`."""
        return await self._answer("score_batch", request, self._score_batch)

    async def explain(self, request: Request) -> Response:
        """`POST /v1/explain`."""
        return await self._answer("explain", request, self._explain)

    async def fields(self, request: Request) -> Response:
        """`GET /v1/fields`."""
        return await self._answer("fields", request, self._fields)

    async def version(self, request: Request) -> Response:
        """`GET /version`."""
        return await self._answer("version", request, self._version)

    def metrics_text(self) -> bytes:
        """The metrics, in Prometheus' text form."""
        self.metrics.in_flight.set(self._in_flight)
        self.metrics.cache_bytes.set(self._creatives.cached_bytes)
        self.metrics.set_embeddings(self._creatives.hits, self._creatives.misses)
        return self.metrics.text()

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether every answering route has a model, and what is wrong."""
        targets = [target for target in self._router.targets if target is not self._router.shadow]
        missing = {
            target.name: self._models.faults.get(target, "not looked for yet")
            for target in targets
            if self._models.current(target) is None
        }
        document: dict[str, Any] = {"ready": not missing}
        if missing:
            document["no_model"] = missing
        if self._reload_error:
            document["config_error"] = self._reload_error
        return not missing, document

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of the model that is served now."""
        served = self._models.current(self._router.targets[0])
        form = served.form if served is not None else None
        return openapi_document(form, metadata.version("adclick"), self.settings.limits.ads)

    async def _answer(
        self, endpoint: str, request: Request, answer: Callable[[Request, _Exchange], Awaitable[dict[str, Any]]]
    ) -> Response:
        given = request.headers.get("x-request-id", "")
        exchange = _Exchange(endpoint, given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16))
        headers = {"x-request-id": exchange.request_id}
        self._in_flight += 1
        try:
            if self._in_flight > self.settings.limits.in_flight:
                raise overloaded("Too many requests are being answered")
            exchange.client = self._client(request)
            self._limiter.check(exchange.client)
            content = await answer(request, exchange)
            status = 200
            body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
        except GatewayError as error:
            status = int(error.status)
            body = orjson.dumps(error.to_json(exchange.request_id))
            if error.retry_after_seconds is not None:
                headers["retry-after"] = str(error.retry_after_seconds)
        except Exception:
            logger.exception("request %s failed", exchange.request_id)
            status = int(_FAULT.status)
            body = orjson.dumps(_FAULT.to_json(exchange.request_id))
        finally:
            self._in_flight -= 1
        self._note(exchange, request, status)
        return Response(body, status, headers, media_type="application/json")

    def _client(self, request: Request) -> str:
        if self._api_keys is not None:
            return authenticate(self._api_keys, request.headers.get("authorization", ""))
        return request.client.host if request.client is not None else _ANONYMOUS

    def _note(self, exchange: _Exchange, request: Request, status: int) -> None:
        seconds = time.monotonic() - exchange.started
        self.metrics.count_request(exchange.endpoint, status, seconds)
        if not self.settings.log.access:
            return
        line: dict[str, Any] = {
            "time": time.time(),
            "request_id": exchange.request_id,
            "client": exchange.client,
            "method": request.method,
            "path": request.url.path,
            "status": status,
            "milliseconds": round(seconds * 1000, 3),
        }
        if exchange.ads:
            line["ads"] = exchange.ads
            line["model_version"] = sorted(exchange.versions)
            line["route"] = sorted(exchange.routes)
        if exchange.user:
            line["user"] = keyed_hash(self._hash_key, exchange.user)
        access_logger.info(orjson.dumps(line).decode())

    async def _score(self, request: Request, exchange: _Exchange) -> dict[str, Any]:
        body = await self._body(request)
        first = await self._models.get(self._router.targets[0])
        parsed = first.form.read(body)
        (scored,) = await self._score_contexts([parsed], first, exchange)
        return {"request_id": exchange.request_id, **_ranked(scored, parsed.creative_status, self._name)}

    async def _score_batch(self, request: Request, exchange: _Exchange) -> dict[str, Any]:
        body = await self._body(request)
        first = await self._models.get(self._router.targets[0])
        parsed = first.form.read_batch(body)
        scored = await self._score_contexts(parsed, first, exchange)
        return {
            "request_id": exchange.request_id,
            "responses": [
                _ranked(one, context.creative_status, self._name) for one, context in zip(scored, parsed, strict=True)
            ],
        }

    async def _explain(self, request: Request, exchange: _Exchange) -> dict[str, Any]:
        body = await self._body(request)
        first = await self._models.get(self._router.targets[0])
        parsed = first.form.read(body)
        if len(parsed.ads) != 1:
            raise invalid(f"one ad is explained at a time, not {len(parsed.ads)}", "ads")
        exchange.user = first.form.value(parsed, self.settings.log.user_field)
        target = self._router.route(first.form.value(parsed, self._router.by))
        served = await self._models.get(target)
        exchange.ads = 1
        exchange.versions.add(served.version)
        exchange.routes.add(target.name)
        deadline = exchange.started + self.settings.backend.explain_timeout_seconds
        try:
            explanation = await self._explain_by(served, parsed, deadline)
        except ServingError as error:
            raise _refusal(error) from error
        model = {"name": self._name, "version": served.version, "route": target.name}
        return {"request_id": exchange.request_id, "model": model, **explanation}

    async def _explain_by(self, served: ServedModel, context: Any, deadline: float) -> dict[str, Any]:
        if not served.explains:
            raise GatewayError(
                HTTPStatus.NOT_IMPLEMENTED,
                "no_explanation",
                f"Version {served.version} cannot explain its scores: it has no signature {EXPLAIN}",
            )
        inputs = served.form.columns([context])
        image = None
        if served.image is not None and served.unknown is not None:
            (image,) = await self._creatives.resolve(served.form.images(context))
            embeddings = await self._embed(served, [image], deadline)
            (status,) = self._statuses([image], embeddings, served.unknown)
            inputs[served.image] = np.array([image.value], object)
        outputs = [*EXPLANATION, *([HEAT_MAP] if image is not None else [])]
        found = await self._backend.run_all(served.version, EXPLAIN, inputs, outputs, deadline)
        explained = explanation_of(*(array[0] for array in found[: len(EXPLANATION)]))
        if image is not None:
            explained["image"] = {"creative_status": status}
            if is_shown(image.value):
                explained["image"] |= await asyncio.to_thread(heat_map_of, image.value, found[-1][0])
        return explained

    @property
    def _name(self) -> str:
        return self.settings.backend.model_name

    async def _fields(self, request: Request, exchange: _Exchange) -> dict[str, Any]:
        served = await self._models.get(self._router.targets[0])
        return {
            "model": {"name": self._name, "version": served.version},
            "fields": [
                {
                    "name": one.name,
                    "type": f"list of {one.dtype}" if one.is_list else one.dtype,
                    "required": one.is_required,
                    "default": one.default,
                    "description": one.description,
                }
                for one in served.form.fields
            ],
        }

    async def _version(self, request: Request, exchange: _Exchange) -> dict[str, Any]:
        models: dict[str, dict[str, Any]] = {}
        for target in self._router.targets:
            served = self._models.current(target)
            models[target.name] = {"version": served.version if served is not None else None}
            if target in self._models.faults:
                models[target.name]["error"] = self._models.faults[target]
        return {"adclick": metadata.version("adclick"), "model": self._name, "routes": models}

    async def _body(self, request: Request) -> bytes:
        limit = self.settings.limits.body_bytes
        kind = request.headers.get("content-type", "application/json")
        if not kind.startswith("application/json"):
            raise GatewayError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not_json", f"Send application/json, not {kind[:100]}"
            )
        chunks = []
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise GatewayError(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", f"A body has at most {limit:,} bytes"
                )
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _score_contexts(self, contexts: Sequence[Any], first: ServedModel, exchange: _Exchange) -> list[_Scored]:
        """Routes each context and scores all that go the same way together."""
        router = self._router
        by_target: dict[Target, list[int]] = defaultdict(list)
        for index, context in enumerate(contexts):
            user = first.form.value(context, router.by)
            exchange.user = exchange.user or first.form.value(context, self.settings.log.user_field)
            by_target[router.route(user)].append(index)
        deadline = exchange.started + self.settings.backend.timeout_seconds
        scored: dict[int, _Scored] = {}
        for target, indices in by_target.items():
            group = [contexts[index] for index in indices]
            answers = await self._score_by(target, group, deadline)
            scored |= dict(zip(indices, answers, strict=True))
        ordered = [scored[index] for index in range(len(contexts))]
        for index, (context, one) in enumerate(zip(contexts, ordered, strict=True)):
            exchange.ads += len(one.probabilities)
            exchange.versions.add(one.version)
            exchange.routes.add(one.target.name)
            self.metrics.count_ads(one.target.name, one.version, one.probabilities)
            if router.is_shadowed():
                self._put_to_shadow(context, one)
            if self._log is not None and random.random() * 100 < self.settings.log.sample_percent:
                self._log.put(self._prediction(one, exchange.request_id, index, first.form.identifiers(context)))
        return ordered

    async def _score_by(self, target: Target, contexts: Sequence[Any], deadline: float) -> list[_Scored]:
        served = await self._models.get(target)
        try:
            return await self._run(target, served, contexts, deadline)
        except ServingError as error:
            if error.code is not Code.NOT_FOUND:
                raise _refusal(error) from error
        # The version has just given way to another.
        served = await self._models.refresh(target)
        try:
            return await self._run(target, served, contexts, deadline)
        except ServingError as error:
            raise _refusal(error) from error

    async def _run(
        self, target: Target, served: ServedModel, contexts: Sequence[Any], deadline: float
    ) -> list[_Scored]:
        columns = served.form.columns(contexts)
        count = sum(len(context.ads) for context in contexts)
        statuses, keys = [""] * count, [b""] * count
        if served.image is None or served.unknown is None:
            probabilities = await self._backend.run(
                served.version, SERVING_DEFAULT, columns, CLICK_PROBABILITY, deadline
            )
        else:
            images = [image for context in contexts for image in served.form.images(context)]
            resolved = await self._creatives.resolve(images)
            embeddings = await self._embed(served, resolved, deadline)
            statuses = self._statuses(resolved, embeddings, served.unknown)
            keys = [one.key for one in resolved]
            inputs = {**columns, CREATIVE_EMBEDDING: embeddings}
            probabilities = await self._backend.run(served.version, SCORE, inputs, CLICK_PROBABILITY, deadline)
        scored = []
        start = 0
        for context in contexts:
            rows = slice(start, start + len(context.ads))
            part = {name: column[rows] for name, column in columns.items()}
            scored.append(_Scored(target, served.version, probabilities[rows], statuses[rows], part, keys[rows]))
            start = rows.stop
        return scored

    async def _embed(self, served: ServedModel, resolved: Sequence[Resolved], deadline: float) -> Array:
        assert served.image is not None
        image = served.image

        async def embed(values: Sequence[bytes]) -> Array:
            inputs = np.empty(len(values), object)
            inputs[:] = values
            return await self._backend.run(
                served.version, EMBED_CREATIVE, {image: inputs}, CREATIVE_EMBEDDING, deadline
            )

        return await self._creatives.embed(served.version, resolved, embed)

    def _statuses(self, resolved: Sequence[Resolved], embeddings: Array, unknown: Array) -> list[str]:
        """A key that the model does not know gets the unknown creative's embedding, by which it is told."""
        is_unknown = (embeddings == unknown).all(axis=1).tolist()
        statuses = [
            UNKNOWN_KEY if one.status == OK and nothing else one.status
            for one, nothing in zip(resolved, is_unknown, strict=True)
        ]
        self.metrics.count_creatives(statuses)
        return statuses

    def _prediction(self, scored: _Scored, request_id: str, context_index: int, identifiers: list[bytes]) -> Prediction:
        served = self._models.current(scored.target)
        columns = dict(scored.columns)
        if served is not None and served.image is not None:
            keys = np.empty(len(scored.keys), object)
            keys[:] = scored.keys
            columns[served.image] = keys
        return Prediction(
            request_id=request_id,
            context_index=context_index,
            route=scored.target.name,
            model_version=scored.version,
            columns=columns,
            probabilities=scored.probabilities,
            impression_ids=identifiers,
            creative_statuses=scored.statuses,
            logged_at=time.time(),
        )

    # The shadow.

    def _put_to_shadow(self, context: Any, scored: _Scored) -> None:
        try:
            self._shadowed.put_nowait((context, scored.probabilities))
        except asyncio.QueueFull:
            self.metrics.shadow.labels("dropped").inc()

    async def _ask_shadow(self) -> None:
        while True:
            context, probabilities = await self._shadowed.get()
            target = self._router.shadow
            if target is None:
                continue
            try:
                deadline = time.monotonic() + self.settings.backend.timeout_seconds
                (scored,) = await self._score_by(target, [context], deadline)
            except Exception as error:
                self.metrics.shadow.labels("failed").inc()
                logger.debug("the shadow failed: %s", error)
                continue
            self.metrics.shadow.labels("answered").inc()
            for difference in np.abs(scored.probabilities - probabilities).tolist():
                self.metrics.shadow_difference.observe(difference)

    # Keeping up to date.

    async def _keep_up_to_date(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            try:
                await asyncio.to_thread(self._reload_if_changed)
                await self._models.refresh_all(self._router.targets)
            except Exception:  # This must outlive whatever one look meets.
                logger.exception("keeping up to date failed")

    def _settings_state(self) -> tuple[tuple[str, int, int], ...]:
        """Sizes and times of the files that the settings come from."""
        files = [file for file in (self._settings_file, self.settings.security.api_keys_file) if file is not None]
        state = []
        for file in files:
            with contextlib.suppress(OSError):
                found = file.stat()
                state.append((str(file), found.st_size, found.st_mtime_ns))
        return tuple(state)

    def _reload_if_changed(self) -> None:
        state = self._settings_state()
        if state == self._read_at:
            return
        self._read_at = state
        try:
            self._reload()
        except ServingError as error:
            self._reload_error = error.message
            self.metrics.reloads.labels("refused").inc()
            logger.error("the settings stay as they were: %s", error.message)
            return
        self._reload_error = ""
        self.metrics.reloads.labels("taken").inc()
        logger.info("took over the changed settings")

    def _reload(self) -> None:
        settings = load_settings(self._settings_file) if self._settings_file is not None else self.settings
        keys_file = self.settings.security.api_keys_file
        api_keys = read_api_keys(keys_file) if keys_file is not None else None
        sections = {
            name for name in GatewaySettings.model_fields if getattr(settings, name) != getattr(self.settings, name)
        }
        if rest := sorted(sections - set(RELOADABLE)):
            logger.warning("these settings need a restart: %s", ", ".join(rest))
        taken = {name: getattr(settings, name) for name in RELOADABLE}
        if settings.limits != self.settings.limits:
            self._limiter = RateLimiter(settings.limits.rate)
            self._models = ServedModels(self._backend, settings.limits, self.settings.backend.model_base_path)
        before, after = self.settings.routing, settings.routing
        # What either asks stays until requests have gone over from the one to the other.
        self._backend.route({**before.labels, **after.labels}, before.versions | after.versions)
        self._router = Router(after)
        self._creatives.settings = settings.creatives
        self._api_keys = api_keys
        self.settings = self.settings.model_copy(update=taken)
        self._backend.route(after.labels, after.versions)


class _ShortCut:
    """Takes scores past FastAPI's and Starlette's layers, which cost a fifth of a request."""

    def __init__(self, app: FastAPI, gateway: Gateway) -> None:
        self._app = app
        self._paths = {"/v1/score": gateway.score, "/v1/score:batch": gateway.score_batch}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._paths.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if answer is None:
            await self._app(scope, receive, send)
            return
        with contextlib.suppress(ClientDisconnect):
            response = await answer(Request(scope, receive))
            await response(scope, receive, send)


def create_app(gateway: Gateway) -> ASGIApp:
    """Builds the application."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with gateway.running():
            yield

    app = FastAPI(title="adclick", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_route("/v1/score", gateway.score, methods=["POST"])
    app.add_route("/v1/score:batch", gateway.score_batch, methods=["POST"])
    app.add_route("/v1/explain", gateway.explain, methods=["POST"])
    app.add_route("/v1/fields", gateway.fields, methods=["GET"])
    app.add_route("/version", gateway.version, methods=["GET"])

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> Response:
        is_ready, document = gateway.ready()
        return Response(orjson.dumps(document), 200 if is_ready else 503, media_type="application/json")

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(gateway.metrics_text(), media_type="text/plain; version=0.0.4")

    @app.get("/openapi.json")
    async def openapi() -> Response:
        return Response(orjson.dumps(gateway.openapi()), media_type="application/json")

    @app.get("/docs")
    async def docs() -> Response:
        return Response(documentation_page(gateway.openapi()), media_type="text/html")

    return _ShortCut(app, gateway)


def _ranked(scored: _Scored, with_status: bool, model_name: str) -> dict[str, Any]:
    order = np.argsort(-scored.probabilities, kind="stable").tolist()
    ads = []
    for rank, index in enumerate(order, 1):
        ad = {"index": index, "rank": rank, "click_probability": scored.probabilities[index]}
        if with_status:
            ad["creative_status"] = scored.statuses[index]
        ads.append(ad)
    return {"model": {"name": model_name, "version": scored.version, "route": scored.target.name}, "ads": ads}


def _refusal(error: ServingError) -> GatewayError:
    if error.code is Code.DEADLINE_EXCEEDED:
        return too_slow("The model did not answer in time")
    if error.code in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED):
        return overloaded(f"The models cannot be asked: {error.message}")
    if error.code is Code.NOT_FOUND:
        return GatewayError(HTTPStatus.SERVICE_UNAVAILABLE, "no_model", error.message, retry_after_seconds=1)
    logger.error("a model failed: %s", error.described())
    return GatewayError(HTTPStatus.BAD_GATEWAY, "model_failed", "The model failed; the gateway's log says more")
