"""The reference pages of the documentation, derived from the code.

`python -m adclick.pipeline.cli.reference` writes them anew.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adclick.pipeline.config.reference import config_reference, gateway_reference

ROOT = Path(__file__).resolve().parents[2]
BEGIN = "<!-- reference: begin; written by `python -m adclick.pipeline.cli.reference` -->"
END = "<!-- reference: end -->"


def commands_reference() -> str:
    """A table of the commands of `adclick`, then each with its arguments and options, by Typer."""
    import typer
    from typer.cli import get_docs_for_click
    from typer.core import TyperGroup
    from typer.main import get_command

    from adclick.pipeline.cli.app import app

    table, sections = ["| command | does |", "|---|---|"], []

    def add(group: TyperGroup, prefix: str) -> None:
        for name, command in group.commands.items():
            if isinstance(command, TyperGroup):
                add(command, f"{prefix} {name}")
                continue
            title = f"{prefix} {name}"
            summary = (command.help or "").split("\n\n")[0].replace("\n", " ")
            table.append(f"| [`{title}`](#{title.replace(' ', '-')}) | {summary} |")
            context = typer.Context(command, info_name=title)
            sections.append(get_docs_for_click(obj=command, ctx=context, indent=1, name=title).strip())

    root = get_command(app)
    assert isinstance(root, TyperGroup)
    add(root, "adclick")
    return "\n\n".join(["\n".join(table), *sections])


def metrics_reference() -> str:
    """What the Evaluator measures, and thresholds may name."""
    from adclick.models.metrics import BY_NAME

    lines = ["| name | called | says | better | threshold |", "|---|---|---|---|---|"]
    better = {True: "higher", False: "lower", None: ""}
    lines += [
        f"| `{metric.name}` | {metric.title} | {metric.meaning} | {better[metric.higher_is_better]} "
        f"| {'yes' if metric.is_of_model else 'no'} |"
        for metric in BY_NAME.values()
    ]
    return "\n".join(lines)


def api_reference() -> str:
    """The paths of the gateway's API, of its OpenAPI document without a model."""
    from adclick.serving.gateway.endpoints import ENDPOINTS
    from adclick.serving.gateway.openapi import openapi_document

    paths = openapi_document(ENDPOINTS, None, 0)["paths"]
    lines = ["| request | does | API key |", "|---|---|---|"]
    lines += [
        f"| `{method.upper()} {path}` | {operation['summary']} | {'no' if operation.get('security') == [] else 'yes'} |"
        for path, operations in paths.items()
        for method, operation in operations.items()
    ]
    return "\n".join(lines)


def with_reference(page: str, reference: str) -> str:
    """A page with its reference brought up to date."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{reference}\n\n{END}{after}"


_PAGES = ROOT / "docs" / "reference"
#: The pages and what makes their references.
PAGES: dict[Path, Callable[[], str]] = {
    _PAGES / "config.md": config_reference,
    _PAGES / "commands.md": commands_reference,
    _PAGES / "metrics.md": metrics_reference,
    _PAGES / "rest-api.md": api_reference,
    ROOT / "serving" / "README.md": gateway_reference,
}

if __name__ == "__main__":
    for path, reference in PAGES.items():
        path.write_text(with_reference(path.read_text(encoding="utf-8"), reference()), encoding="utf-8")
