"""The project's packages under one name, by which the wheel installs them and all code imports them.

In a checkout each of them is a link to its folder at the top.

The artifact types of our TFX components are attributes, imported when asked for: Kubeflow and Vertex AI call a type
`<module>.<Type>`, without a dot more, and TFX's container entry point imports it by that name.
"""

from __future__ import annotations

import importlib
from typing import Any

_ARTIFACT_MODULES = ("adclick.components.artifacts", "adclick.components.data_gate.component")


def __getattr__(name: str) -> Any:
    if name[:1].isupper():
        for module in map(importlib.import_module, _ARTIFACT_MODULES):
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
