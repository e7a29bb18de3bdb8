"""Refusals of the gateway: an HTTP status, a code for programs and words for people."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from adclick.serving.errors import Code, ServingError

logger = logging.getLogger(__name__)


class ErrorDetails(Struct):
    code: Annotated[str, Meta(description="A short name of the reason, which does not change.")]
    message: Annotated[str, Meta(description="What is wrong and, where there is one, the remedy.")]
    request_id: str
    field: Annotated[str | UnsetType, Meta(description="The field that is wrong, such as `ads[3].ad_id`.")] = UNSET


class Error(Struct):
    error: ErrorDetails


class GatewayError(Exception):
    """A request that is not answered.

    Attributes:
        status: The HTTP status.
        code: A short name of the reason, which does not change.
        message: What is wrong and, where there is one, the remedy.
        field: The field that is wrong, such as `ads[3].ad_id`; empty if it is none.
        retry_after_seconds: When to try again; None if that is no help.
    """

    def __init__(
        self, status: HTTPStatus, code: str, message: str, *, field: str = "", retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.retry_after_seconds = retry_after_seconds

    def to_answer(self, request_id: str) -> Error:
        """The answer's document."""
        return Error(ErrorDetails(self.code, self.message, request_id, self.field or UNSET))


def invalid(message: str, field: str = "") -> GatewayError:
    """422: the request is JSON, but not one that can be scored."""
    return GatewayError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", message, field=field)


def overloaded(message: str) -> GatewayError:
    """503: more than can be held; nothing was done."""
    return GatewayError(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", message, retry_after_seconds=1)


def no_model(message: str) -> GatewayError:
    """503: there is no model to ask."""
    return GatewayError(HTTPStatus.SERVICE_UNAVAILABLE, "no_model", message, retry_after_seconds=1)


def too_slow(message: str) -> GatewayError:
    """504: the answer would come too late."""
    return GatewayError(HTTPStatus.GATEWAY_TIMEOUT, "deadline_exceeded", message)


def no_probability(version: int, what: str) -> GatewayError:
    """502: a model gave something that is no click probability."""
    return GatewayError(
        HTTPStatus.BAD_GATEWAY,
        "no_probability",
        f"Version {version} gave no click probability: {what}. Is a quantity far beyond what it was trained on?",
    )


def refusal_of(error: ServingError) -> GatewayError:
    """The refusal of a request whose model could not be asked."""
    if error.code is Code.DEADLINE_EXCEEDED:
        return too_slow("The model did not answer in time")
    if error.code in (Code.UNAVAILABLE, Code.CANCELLED, Code.RESOURCE_EXHAUSTED):
        return overloaded(f"The models cannot be asked: {error.message}")
    if error.code is Code.NOT_FOUND:
        return no_model(error.message)
    logger.error("a model failed: %s", error.described())
    return GatewayError(HTTPStatus.BAD_GATEWAY, "model_failed", "The model failed; the gateway's log says more")
