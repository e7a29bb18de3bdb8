"""The references of the config and of the gateway's settings, derived from these."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from adclick.models.settings import ThresholdSettings
from adclick.pipeline.config.platform import StepSettings
from adclick.pipeline.config.settings import Config
from adclick.schema.feature_table import FeatureTable
from adclick.schema.roles import ROLES
from adclick.serving.gateway.settings import GatewaySettings, Route
from adclick.stream.features.feature import WindowFeature
from adclick.stream.features.kinds import KINDS


def config_reference() -> str:
    """Every key of the config, its default and its meaning, as Markdown tables."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    lines += _rows(Config, "")
    lines += ["", "Each threshold of `evaluation.thresholds`:", "", "| key | default | meaning |", "|---|---|---|"]
    lines += _rows(ThresholdSettings, "")
    lines += ["", "Each step of `platform.steps`:", "", "| key | default | meaning |", "|---|---|---|"]
    lines += _rows(StepSettings, "")
    lines += [
        "",
        "Each feature of `stream.features` has a `kind`, and by it:",
        "",
        "| kind | key | default | meaning |",
    ]
    lines += ["|---|---|---|---|"]
    for kind in KINDS:
        (name,) = get_args(kind.model_fields["kind"].annotation)
        lines.append(f"| `{name}` | | | {' '.join((kind.__doc__ or '').split())} |")
        lines += [
            f"| | `{key}` | {_default(field)} | {_text(field)} |"
            for key, field in kind.model_fields.items()
            if key not in ("kind", *WindowFeature.model_fields)
        ]
    lines += [
        f"| any but `time_to_click` | `{key}` | {_default(field)} | {_text(field)} |"
        for key, field in WindowFeature.model_fields.items()
    ]
    lines += ["", "Each column of `features` has a `role`, and by it:", "", "| role | key | default | meaning |"]
    lines += ["|---|---|---|---|"]
    shared: dict[str, FieldInfo] = {}
    for name, role in ROLES.items():
        own = {key: field for key, field in role.model_fields.items() if key != "role"}
        common = {key: field for key, field in own.items() if key in ("source", "description", "missing", "required")}
        shared = common
        lines.append(f"| `{name}` | | | {' '.join((role.__doc__ or '').split())} |")
        lines += [
            f"| | `{key}` | {_default(field)} | {_text(field)} |" for key, field in own.items() if key not in common
        ]
    lines += [f"| any | `{key}` | {_default(field)} | {_text(field)} |" for key, field in shared.items()]
    return "\n".join(lines)


def gateway_reference() -> str:
    """Every setting of the gateway, its default and its meaning, as Markdown tables."""
    head = ["| key | default | meaning |", "|---|---|---|"]
    lines = [*head, *_rows(GatewaySettings, "")]
    lines += ["", "Each of `routing.routes`:", "", *head, *_rows(Route, "")]
    return "\n".join(lines)


def _rows(model: type[BaseModel], prefix: str, given: BaseModel | None = None) -> Iterator[str]:
    """The keys of a section; `given` holds its defaults, where the section it stands in has other ones."""
    for name, field in model.model_fields.items():
        kind = _section(field.annotation)
        if isinstance(kind, type) and issubclass(kind, FeatureTable):
            yield f"| `{prefix}{name}` | required | The columns by name; see below. |"
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _rows(kind, f"{prefix}{name}.", field.default if isinstance(field.default, BaseModel) else None)
        else:
            default = _default(field) if given is None else _shown(getattr(given, name))
            yield f"| `{prefix}{name}` | {default} | {_text(field)} |"


def _section(annotation: Any) -> Any:
    """What a key holds; of a section that may be left out, the section."""
    given = [part for part in get_args(annotation) if part is not type(None)]
    is_optional = len(given) < len(get_args(annotation))
    return given[0] if is_optional and len(given) == 1 else annotation


def _text(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return _shown(field.default)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return "; ".join(
            " ".join(f"{key} {item}" for key, item in part.model_dump(exclude_none=True).items() if item != ())
            for part in value
        )
    return "`" + json.dumps(value, ensure_ascii=False).replace("|", "\\|") + "`"
