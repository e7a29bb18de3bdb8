"""The names of the platforms; what they are stands in `pipeline.targets.platforms`."""

from __future__ import annotations

from typing import Literal, get_args

Target = Literal["vertex", "kubeflow"]
TARGETS: tuple[Target, ...] = get_args(Target)
