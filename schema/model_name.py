"""The name of a model whose project gives none: in its push directory, in addresses and in settings."""

from __future__ import annotations

from typing import Final

DEFAULT_MODEL_NAME: Final = "adclick"
