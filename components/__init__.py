"""adclick's own TFX components, a folder each.

Their artifact types are found here by name too, imported when asked for: Kubeflow and Vertex AI call a type
`<module>.<Type>`, without a dot more, and TFX's container entry point imports it by that name.
"""

from __future__ import annotations

import importlib
from typing import Any

_ARTIFACT_MODULES = ("components.artifacts", "components.data_gate.component")


def __getattr__(name: str) -> Any:
    if name[:1].isupper():
        for module in map(importlib.import_module, _ARTIFACT_MODULES):
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
