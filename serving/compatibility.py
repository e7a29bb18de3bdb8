"""Where the compat and the modern stack of libraries differ; no other module asks for a version."""

from __future__ import annotations

from typing import Any

import google.protobuf
from google.protobuf import json_format
from google.protobuf.message import Message

# The option's name changed with protobuf 5.
_ALL_FIELDS = (
    "always_print_fields_with_no_presence"
    if int(google.protobuf.__version__.split(".")[0]) >= 5
    else "including_default_value_fields"
)


def message_with_all_fields(message: Message) -> dict[str, Any]:
    """A message as JSON has it, under its fields' own names, unset ones with their defaults."""
    options: dict[str, Any] = {"preserving_proto_field_name": True, _ALL_FIELDS: True}
    return json_format.MessageToDict(message, **options)
