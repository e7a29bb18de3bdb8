"""The gateway's OpenAPI document, made of the served model's fields, and a page that shows it to people."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from serving.gateway.fields import RequestForm

_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "request_id"],
            "properties": {
                "code": {"type": "string", "description": "A short name of the reason, which does not change."},
                "message": {"type": "string", "description": "What is wrong and, where there is one, the remedy."},
                "field": {"type": "string", "description": "The field that is wrong, such as `ads[3].ad_id`."},
                "request_id": {"type": "string"},
            },
        }
    },
}
_SCORED_AD: dict[str, Any] = {
    "type": "object",
    "required": ["index", "rank", "click_probability"],
    "properties": {
        "index": {"type": "integer", "description": "Which of the request's ads, from 0."},
        "rank": {"type": "integer", "description": "1 for the ad that is most likely to be clicked."},
        "click_probability": {"type": "number", "minimum": 0, "maximum": 1, "description": "Calibrated."},
        "creative_status": {
            "type": "string",
            "enum": ["ok", "none", "unknown_key", "not_fetched", "timed_out", "too_large", "not_an_image"],
            "description": "Where asked for: whether the ad was scored with its image, or why with the unknown one.",
        },
    },
}
_SCORES: dict[str, Any] = {
    "type": "object",
    "required": ["request_id", "model", "ads"],
    "properties": {
        "request_id": {"type": "string", "description": "The header `X-Request-Id`, or one that was made."},
        "model": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "version": {"type": "integer", "description": "The version that answered."},
                "route": {"type": "string", "description": "The route that led to it."},
            },
        },
        "ads": {"type": "array", "items": {"$ref": "#/components/schemas/ScoredAd"}, "description": "Ranked."},
    },
}
_EXPLANATION = {
    "type": "object",
    "required": ["request_id", "model", "click_probability", "logit", "baseline", "contributions"],
    "properties": {
        "request_id": _SCORES["properties"]["request_id"],
        "model": _SCORES["properties"]["model"],
        "click_probability": {"type": "number", "description": "As `POST /v1/score` answers."},
        "logit": {"type": "number", "description": "log(p / (1 - p)) of it."},
        "baseline": {
            "type": "object",
            "description": "The same of an ad of which nothing is known: unknown names, mean quantities, no image.",
            "properties": {"click_probability": {"type": "number"}, "logit": {"type": "number"}},
        },
        "contributions": {
            "type": "array",
            "description": "The largest first; they add up to `logit` less the baseline's.",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "contribution": {"type": "number"}},
            },
        },
        "image": {
            "type": "object",
            "properties": {
                "creative_status": _SCORED_AD["properties"]["creative_status"],
                "logit_against_grey": {
                    "type": "number",
                    "description": "What the image adds against a plain grey one: the sum of the heat map. Only for "
                    "an image that is given by its bytes or an address.",
                },
                "heat_map": {
                    "type": "object",
                    "properties": {"b64": {"type": "string", "description": "PNG: red adds to the logit, blue takes."}},
                },
            },
        },
    },
}
_REFUSALS = {
    "400": "The body is not JSON.",
    "401": "The API key is missing or unknown.",
    "403": "An image's address is not allowed.",
    "413": "The body, or an image, is too large.",
    "415": "The body is not declared as JSON.",
    "422": "A field is unknown, missing or of the wrong type; `field` names it.",
    "429": "Too many requests of one client; `Retry-After` says when to try again.",
    "503": "No model is loaded, or too many requests are being answered; `Retry-After` says when to try again.",
    "504": "The answer would come too late.",
}
_INTRODUCTION = (
    "Will this user click this ad? Send what is known of the user and the page once (`context`) and up to {ads} ads; "
    "get a calibrated click probability for each, ranked. The fields are those of the model that is served now, and "
    "change with it; `GET /v1/fields` lists them. A value that the model has not seen is fine."
)


def openapi_document(form: RequestForm | None, version: str, most_ads: int) -> dict[str, Any]:
    """The document; without the fields while no model is loaded."""
    schemas: dict[str, Any] = {"Error": _ERROR, "ScoredAd": _SCORED_AD, "Scores": _SCORES, "Explanation": _EXPLANATION}
    request: dict[str, Any] = {"type": "object"}
    batch: dict[str, Any] = {"type": "object"}
    if form is not None:
        (request, batch), components = msgspec.json.schema_components(
            [form.score_type, form.batch_type], ref_template="#/components/schemas/{name}"
        )
        schemas |= components
    answer = {"$ref": "#/components/schemas/Scores"}
    answers = {
        "type": "object",
        "properties": {"request_id": {"type": "string"}, "responses": {"type": "array", "items": answer}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "adclick", "version": version, "description": _INTRODUCTION.format(ads=most_ads)},
        "components": {
            "schemas": schemas,
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"apiKey": []}],
        "paths": {
            "/v1/score": {"post": _operation("Score the ads of one context", request, answer, _example(form))},
            "/v1/score:batch": {"post": _operation("Score the ads of many contexts", batch, answers, None)},
            "/v1/explain": {
                "post": _operation(
                    "Explain the score of one ad",
                    request,
                    {"$ref": "#/components/schemas/Explanation"},
                    _example(form),
                    {"501": "The model that is served was exported without explanations."},
                )
            },
            "/v1/fields": {"get": _simple("The fields of a request, as the served model takes them")},
            "/healthz": {"get": _simple("Whether the process answers", is_open=True)},
            "/readyz": {"get": _simple("Whether a model is loaded: 200 or 503", is_open=True)},
            "/version": {"get": _simple("Versions of the gateway and of the models that it asks")},
            "/metrics": {"get": _simple("Metrics in Prometheus' text form")},
        },
    }


def _operation(
    summary: str, request: Any, answer: Any, example: Any, refusals: Mapping[str, str] | None = None
) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": request}
    if example is not None:
        content["example"] = example
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {
            "200": {"description": "Answered.", "content": {"application/json": {"schema": answer}}},
            **{
                status: {"description": text, "content": error}
                for status, text in {**_REFUSALS, **(refusals or {})}.items()
            },
        },
    }


def _simple(summary: str, is_open: bool = False) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": summary, "responses": {"200": {"description": "Answered."}}}
    if is_open:
        operation["security"] = []
    return operation


def _example(form: RequestForm | None) -> Any:
    if form is None:
        return None
    values = {"string": "text", "float32": 1.0, "int64": 1}
    context = {
        field.name: [values[field.dtype]] if field.is_list else values[field.dtype]
        for field in form.fields
        if not field.is_image and not field.is_timestamp and not field.is_identifier
    }
    ad: dict[str, Any] = {field.name: "a22636518735ed1e89a01e6df73bb809" for field in form.fields if field.is_image}
    moved = [name for name in context if name.startswith("ad_")]
    return {
        "context": {name: context[name] for name in context if name not in moved},
        "ads": [{**{name: context[name] for name in moved}, **ad}],
    }


def documentation_page(document: Mapping[str, Any]) -> str:
    """The document as one page of HTML that needs nothing from elsewhere."""
    info = document["info"]
    parts = [
        f"<h1>{html.escape(info['title'])} {html.escape(info['version'])}</h1><p>{_prose(info['description'])}</p>"
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(
                f"<h2><code>{method.upper()} {html.escape(path)}</code></h2><p>{_prose(operation['summary'])}</p>"
            )
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            if "example" in content:
                parts.append(f"<h3>Request</h3><pre>{html.escape(json.dumps(content['example'], indent=2))}</pre>")
            if method == "post":
                rows = "".join(
                    f"<tr><td>{status}</td><td>{_prose(answer['description'])}</td></tr>"
                    for status, answer in operation["responses"].items()
                )
                parts.append(f"<h3>Answers</h3><table>{rows}</table>")
    for name, schema in sorted(document["components"]["schemas"].items()):
        rows = "".join(
            f"<tr><td><code>{html.escape(field)}</code></td><td>{html.escape(_type_text(about))}</td>"
            f"<td>{_prose(str(about.get('description', '')))}</td></tr>"
            for field, about in schema.get("properties", {}).items()
        )
        parts.append(f"<h2 id='{html.escape(name)}'>{html.escape(name)}</h2><table>{rows}</table>")
    return _PAGE.format(body="".join(parts))


def _prose(text: str) -> str:
    """Text with `code` in it."""
    pieces = html.escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))


def _type_text(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[1]
    if "anyOf" in schema:
        return " or ".join(_type_text(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type_text(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>adclick API</title><style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; display: block; overflow-x: auto; }}
td {{ border-top: 1px solid #8886; padding: .3rem .8rem .3rem 0; vertical-align: top; }}
pre {{ background: #8882; padding: 1rem; overflow-x: auto; }}
h2 {{ margin-top: 2.5rem; }}
</style></head><body>{body}</body></html>
"""
