"""Errors of serving; each carries the canonical status that REST and gRPC turn into their own codes."""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus


class Code(Enum):
    """The canonical status codes, as gRPC numbers them and as TensorFlow Serving maps them to HTTP."""

    OK = (0, HTTPStatus.OK)
    CANCELLED = (1, 499)
    UNKNOWN = (2, HTTPStatus.INTERNAL_SERVER_ERROR)
    INVALID_ARGUMENT = (3, HTTPStatus.BAD_REQUEST)
    DEADLINE_EXCEEDED = (4, HTTPStatus.GATEWAY_TIMEOUT)
    NOT_FOUND = (5, HTTPStatus.NOT_FOUND)
    ALREADY_EXISTS = (6, HTTPStatus.CONFLICT)
    PERMISSION_DENIED = (7, HTTPStatus.FORBIDDEN)
    RESOURCE_EXHAUSTED = (8, HTTPStatus.TOO_MANY_REQUESTS)
    FAILED_PRECONDITION = (9, HTTPStatus.BAD_REQUEST)
    ABORTED = (10, HTTPStatus.CONFLICT)
    OUT_OF_RANGE = (11, HTTPStatus.BAD_REQUEST)
    UNIMPLEMENTED = (12, HTTPStatus.NOT_IMPLEMENTED)
    INTERNAL = (13, HTTPStatus.INTERNAL_SERVER_ERROR)
    UNAVAILABLE = (14, HTTPStatus.SERVICE_UNAVAILABLE)
    DATA_LOSS = (15, HTTPStatus.INTERNAL_SERVER_ERROR)
    UNAUTHENTICATED = (16, HTTPStatus.UNAUTHORIZED)

    def __init__(self, grpc_code: int, http_status: int) -> None:
        self.grpc_code = grpc_code
        self.http_status = int(http_status)

    @classmethod
    def from_grpc_code(cls, grpc_code: int) -> Code:
        """The code that gRPC and TensorFlow number so; UNKNOWN if there is none."""
        return next((code for code in cls if code.grpc_code == grpc_code), cls.UNKNOWN)


class ServingError(Exception):
    """A failure with a canonical code.

    Attributes:
        message: What is wrong, as a client is told it.
        code: The canonical code, with its `http_status` and `grpc_code`.
    """

    code = Code.UNKNOWN

    def __init__(self, message: str, code: Code | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code

    def described(self) -> str:
        """The code's name and the message, as TensorFlow writes a status: `NOT_FOUND: no such thing`."""
        return f"{self.code.name}: {self.message}"


class InvalidArgumentError(ServingError):
    """The request is wrong; sending it again cannot help."""

    code = Code.INVALID_ARGUMENT


class DeadlineExceededError(ServingError):
    """The answer took longer than the request allows."""

    code = Code.DEADLINE_EXCEEDED


class NotFoundError(ServingError):
    """No such model, version or file."""

    code = Code.NOT_FOUND


class FailedPreconditionError(ServingError):
    """The model is not as the request needs it."""

    code = Code.FAILED_PRECONDITION


class UnimplementedError(ServingError):
    """The request asks for something that the server cannot do."""

    code = Code.UNIMPLEMENTED


class InternalError(ServingError):
    """The model or the server is at fault."""

    code = Code.INTERNAL


class DataLossError(ServingError):
    """A model's file cannot be read."""

    code = Code.DATA_LOSS


class UnavailableError(ServingError):
    """The server cannot start or cannot be reached."""

    code = Code.UNAVAILABLE
