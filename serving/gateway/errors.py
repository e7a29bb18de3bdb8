"""Refusals of the gateway: an HTTP status, a code for programs and words for people."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any


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

    def to_json(self, request_id: str) -> dict[str, Any]:
        """The answer's document."""
        error = {"code": self.code, "message": self.message, "request_id": request_id}
        if self.field:
            error["field"] = self.field
        return {"error": error}


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
