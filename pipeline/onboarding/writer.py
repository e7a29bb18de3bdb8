"""Writes what was inferred as a config and a curated schema, each guess explained in a comment."""

from __future__ import annotations

import math
import shutil
import tempfile
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from adclick.pipeline.config.settings import load_config
from adclick.pipeline.onboarding.inference import Inference
from adclick.schema.curated import build_schema, check_schema, load_schema, write_schema
from adclick.schema.errors import ConfigError
from adclick.schema.feature_table import parse_feature_table

CONFIG_NAME = "config.yaml"
SCHEMA_NAME = "schema.pbtxt"
_WIDTH = 110
_TITLES = {
    "data": "Where the data is.",
    "csv": "How the files are written.",
    "split": "How rows are parted into training, validation and evaluation.",
    "network": "The network.",
    "training": "Its training.",
    "evaluation": "What is measured on held-out rows.",
}


def refuse_overwriting(output: Path) -> None:
    """Raises ConfigError if a file to be written exists."""
    existing = [output / name for name in (CONFIG_NAME, SCHEMA_NAME) if (output / name).exists()]
    if existing:
        raise ConfigError(
            f"{existing[0]}: exists already and may hold a person's review",
            "Give another --output, or --force to overwrite it.",
        )


def write_project(inference: Inference, output: Path, *, force: bool = False) -> tuple[Path, Path]:
    """Writes `config.yaml` and `schema.pbtxt`, after reading both back and holding them against each other.

    Args:
        inference: What to write.
        output: The folder; made if it does not exist.
        force: Whether existing files are overwritten.

    Returns:
        The paths of the config and of the schema.

    Raises:
        ConfigError: A file exists, or the folder cannot be written to.
    """
    if not force:
        refuse_overwriting(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".init-", dir=output))
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written to: {error}", "Give another --output.") from None
    config_path, schema_path = folder / CONFIG_NAME, folder / SCHEMA_NAME
    try:
        config_path.write_text(config_text(inference), encoding="utf-8")
        features = parse_feature_table({column.name: dict(column.settings) for column in inference.columns})
        schema = build_schema(features, domains=inference.domains, presence=inference.presence)
        write_schema(schema, str(schema_path))
        check_schema(load_schema(str(schema_path)), load_config(config_path).features)
        schema_path.replace(output / SCHEMA_NAME)
        config_path.replace(output / CONFIG_NAME)
    finally:
        shutil.rmtree(folder)
    return output / CONFIG_NAME, output / SCHEMA_NAME


def config_text(inference: Inference) -> str:
    """The config as commented YAML."""
    lines = _comment(
        "Written by `adclick init` from a sample of the data: guesses, for a person to review. "
        "docs/reference/config.md lists every key; what is not given here has its default."
    )
    if inference.warnings:
        lines += ["#", "# Look at these first:"]
        for warning in inference.warnings:
            lines += _comment(warning, first="# - ", rest="#   ")
    for key in ("data", "csv", "split"):
        lines += _section(inference, key)
    lines += [
        "",
        "# What each column is. Only columns known when the ad is shown may have a role that the model reads.",
        "features:",
    ]
    for column in inference.columns:
        lines += _comment(f"{column.reason[:1].upper()}{column.reason[1:]}.", first="  # ", rest="  # ")
        lines += textwrap.indent(_yaml({column.name: dict(column.settings)}), "  ").rstrip("\n").split("\n")
    for key in ("network", "training", "evaluation"):
        lines += _section(inference, key)
    lines += ["", "output: output", f"schema_file: {SCHEMA_NAME}"]
    return "\n".join(lines) + "\n"


def _section(inference: Inference, key: str) -> Iterable[str]:
    section = inference.sections.get(key)
    if section is None or not section.settings:
        return []
    comments = [line for reason in (_TITLES[key], *section.reasons) for line in _comment(reason)]
    values = [
        line for name, value in section.settings.items() for line in _yaml({name: value}).rstrip("\n").split("\n")
    ]
    return ["", *comments, f"{key}:", *(f"  {line}" for line in values)]


def _yaml(document: Mapping[str, Any]) -> str:
    """YAML in block style on the outside, with each list or mapping inside on one line where it fits."""
    lines = []
    for key, value in document.items():
        if isinstance(value, list | dict):
            # A long key stands on a line of its own, and its value on the next.
            head = _dumped({key: None}, width=math.inf).removesuffix("null\n")
            inside = _dumped(value, default_flow_style=True)
            lines += f"{head}{textwrap.indent(inside, '  ').strip()}".split("\n")
        else:
            lines += _dumped({key: value}).rstrip("\n").split("\n")
    return "\n".join(lines) + "\n"


class _Dumper(yaml.SafeDumper):
    """Quotes a text with characters that are not printable in the one style that escapes all that break a line."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)


def _dumped(document: Any, *, width: float = _WIDTH, default_flow_style: bool = False) -> str:
    return str(
        yaml.dump(
            document,
            Dumper=_Dumper,
            sort_keys=False,
            allow_unicode=True,
            width=width,
            default_flow_style=default_flow_style,
        )
    )


def _comment(text: str, first: str = "# ", rest: str = "# ") -> list[str]:
    printable = "".join(character if character.isprintable() else " " for character in text)
    return textwrap.wrap(
        printable, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
