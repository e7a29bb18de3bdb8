"""`adclick api-key`: keys for the gateway."""

from __future__ import annotations

import os
from pathlib import Path

from adclick.schema.errors import ConfigError
from adclick.serving.errors import ServingError
from adclick.serving.gateway.security import create_api_key, read_api_keys


def run_api_key(name: str, file: Path) -> str:
    """Makes an API key and adds its hash to a keys file, which nobody else may read; returns the key.

    Raises:
        ConfigError: The name is taken or not of the form that is expected, or the file is no keys file.
    """
    try:
        key, line = create_api_key(name)
        known = read_api_keys(file) if file.exists() else {}
    except ServingError as error:
        raise ConfigError(error.message) from error
    if name in known:
        raise ConfigError(f"{file}: there is a key of {name} already", "Remove its line, or choose another name.")
    file.parent.mkdir(parents=True, exist_ok=True)
    ends_midline = file.exists() and file.read_bytes()[-1:] not in (b"", b"\n")
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as stream:
        stream.write(("\n" if ends_midline else "") + line + "\n")
    return key
