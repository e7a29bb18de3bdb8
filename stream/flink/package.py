"""Where PyFlink's package has Flink itself."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from adclick.schema.errors import ConfigError


def flink_home() -> Path:
    """The folder of PyFlink's package, which holds Flink's jars.

    Raises:
        ConfigError: It is not installed.
    """
    found = importlib.util.find_spec("pyflink")
    if found is None or found.origin is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ConfigError(
            "PyFlink is not installed",
            "pip install 'adclick[flink]' on Python 3.11"
            + ("." if sys.version_info < (3, 12) else f"; this is {version}, whose Beam is newer than PyFlink takes."),
        )
    return Path(found.origin).parent
