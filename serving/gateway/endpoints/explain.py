"""`POST /v1/explain`: why one ad has its click probability."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType

from adclick.schema.signatures import EXPLAIN, HEAT_MAP
from adclick.serving.errors import ServingError
from adclick.serving.gateway.backends import Array
from adclick.serving.gateway.creatives import Resolved
from adclick.serving.gateway.endpoints.endpoint import ApiEndpoint, ModelAnswer, RequestId
from adclick.serving.gateway.endpoints.score import CreativeStatus
from adclick.serving.gateway.errors import GatewayError, invalid, refusal_of
from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.explanation import EXPLANATION, WORD_OUTPUTS, is_shown, overlay, probability_of
from adclick.serving.gateway.gateway import Gateway


class Png(Struct):
    b64: Annotated[bytes, Meta(description="PNG: red adds to the logit, blue takes.")]


class ImageExplanation(Struct):
    creative_status: CreativeStatus
    logit_against_grey: Annotated[
        float | UnsetType,
        Meta(
            description="What the image adds against a plain grey one: the sum of the heat map. Only for an image that "
            "is given by its bytes or an address."
        ),
    ] = UNSET
    heat_map: Png | UnsetType = UNSET


class Baseline(Struct):
    click_probability: float
    logit: float


class WordContribution(Struct):
    word: str
    contribution: float


class Contribution(Struct):
    field: str
    contribution: float
    words: Annotated[
        list[WordContribution] | UnsetType,
        Meta(description="Of a text, the words that add or take the most, with their parts and neighbours."),
    ] = UNSET


class Explanation(Struct):
    request_id: RequestId
    model: ModelAnswer
    click_probability: Annotated[float, Meta(description="As `POST /v1/score` answers.")]
    logit: Annotated[float, Meta(description="log(p / (1 - p)) of it.")]
    baseline: Annotated[
        Baseline,
        Meta(description="The same of an ad of which nothing is known: unknown names, mean quantities, no image."),
    ]
    contributions: Annotated[
        list[Contribution], Meta(description="The largest first; they add up to `logit` less the baseline's.")
    ]
    image: ImageExplanation | UnsetType = UNSET


async def answer(gateway: Gateway, exchange: Exchange) -> Explanation:
    snapshot = exchange.snapshot
    settings = snapshot.settings
    form = (await snapshot.first_model(exchange.route)).form
    context = form.read(exchange.body)
    if len(context.ads) != 1:
        raise invalid(f"one ad is explained at a time, not {len(context.ads)}", "ads")
    exchange.user = form.value(context, settings.log.user_field)
    if exchange.route:
        target = snapshot.first_target(exchange.route)
    else:
        target = snapshot.router.route(form.value(context, snapshot.router.by))
    model = await snapshot.models.get(target)
    exchange.ads = 1
    exchange.versions.add(model.version)
    exchange.routes.add(target.name)
    if not model.explains:
        raise GatewayError(
            HTTPStatus.NOT_IMPLEMENTED,
            "no_explanation",
            f"Version {model.version} cannot explain its scores: it has no signature {EXPLAIN}",
        )
    deadline = exchange.started + settings.backend.explain_timeout_seconds
    inputs = model.form.columns([context])
    outputs = list(EXPLANATION)
    image, status = None, ""
    try:
        if model.image is not None:
            images = model.form.images(context)
            embedded = await gateway.embedder.embed(snapshot.creatives, model, images, deadline)
            (image,), (status,) = embedded.resolved, embedded.statuses
            inputs[model.image] = np.array([image.value], object)
            outputs.append(HEAT_MAP)
        if model.texts:
            outputs += WORD_OUTPUTS
        arrays = await gateway.backend.run_all(model.version, EXPLAIN, inputs, outputs, deadline)
    except ServingError as error:
        raise refusal_of(error) from error
    found = dict(zip(outputs, [array[0] for array in arrays], strict=True))
    if not all(
        np.isfinite(array).all() for name, array in found.items() if name not in (EXPLANATION[0], WORD_OUTPUTS[0])
    ):
        raise gateway.scorer.refuse(model.version, "an explanation that is not finite")
    columns, contributions, logit, baseline_logit = [found[name] for name in EXPLANATION]
    words = _words(found, model.texts) if model.texts else {}
    return Explanation(
        exchange.request_id,
        ModelAnswer(settings.backend.model_name, model.version, target.name),
        probability_of(float(logit)),
        float(logit),
        Baseline(probability_of(float(baseline_logit)), float(baseline_logit)),
        [
            Contribution(name := columns[index].decode(), float(contributions[index]), words.get(name, UNSET))
            for index in np.argsort(-np.abs(contributions), kind="stable").tolist()
        ],
        UNSET if image is None else await _image_explanation(image, status, found[HEAT_MAP]),
    )


def _words(found: dict[str, Array], texts: Sequence[str]) -> dict[str, list[WordContribution] | UnsetType]:
    """By text column, its strongest words."""
    words, added = (found[name].reshape(len(texts), -1) for name in WORD_OUTPUTS)
    return {
        name: [
            WordContribution(word.decode("utf-8", "replace"), float(value))
            for word, value in zip(words[number], added[number], strict=True)
            if word
        ]
        for number, name in enumerate(texts)
    }


async def _image_explanation(image: Resolved, status: Any, heat: Array) -> ImageExplanation:
    if not is_shown(image.value):
        return ImageExplanation(status)
    return ImageExplanation(status, float(heat.sum()), Png(await asyncio.to_thread(overlay, image.value, heat)))


ENDPOINT = ApiEndpoint(
    "POST",
    "/v1/explain",
    name="explain",
    summary="Explain the score of one ad",
    answer=answer,
    answers_with=Explanation,
    request_type=lambda form: form.score_type,
    has_example=True,
    takes_route=True,
    refusals={HTTPStatus.NOT_IMPLEMENTED: "The model that is served was exported without explanations."},
)
