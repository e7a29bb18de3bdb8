"""What a model server tells about a version of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from adclick.serving.errors import Code


class State(Enum):
    """A version's life, in order; a version that failed to load goes from LOADING to END."""

    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


@dataclass(frozen=True)
class VersionStatus:
    """A version, its state and, if something went wrong with it, what.

    Attributes:
        version: The version number.
        state: Where the version is in its life.
        error_code: OK, or the kind of failure.
        error_message: The failure in words; empty if there is none.
    """

    version: int
    state: State
    error_code: Code = Code.OK
    error_message: str = ""

    def to_json(self) -> dict[str, Any]:
        """The form that TensorFlow Serving's REST API gives it: 64-bit integers are strings."""
        return {
            "version": str(self.version),
            "state": self.state.value,
            "status": {"error_code": self.error_code.name, "error_message": self.error_message},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> VersionStatus:
        """Reads the form that `to_json` writes.

        Raises:
            KeyError, ValueError: The document has another form.
        """
        status = document["status"]
        code = Code[status["error_code"]]
        return cls(int(document["version"]), State(document["state"]), code, str(status["error_message"]))
