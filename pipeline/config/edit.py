"""Changes values in a config file and keeps its comments and layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

#: A key of the file, from the outermost: `("training", "dropout")`.
Path = tuple[str, ...]


def edit_yaml(text: str, values: Mapping[Path, Any]) -> str:
    """Sets values in a YAML document.

    Args:
        text: The document, a mapping.
        values: By key, the new value of plain YAML types; keys and sections that are missing are added.

    Returns:
        The document with these values and all else as it was: comments too, unless it uses YAML that has no place to
        put a value, such as an alias for a section; then it is written anew.
    """
    wanted = yaml.safe_load(text)
    edited = text
    for path, value in values.items():
        section = wanted
        for key in path[:-1]:
            # A copy, as an alias's mapping is in several places.
            section[key] = dict(section.get(key) or {})
            section = section[key]
        section[path[-1]] = value
        edited = _set(edited, path, value)
    try:
        kept = yaml.safe_load(edited) == wanted
    except yaml.YAMLError:
        kept = False
    return edited if kept else yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True)


def _set(text: str, path: Path, value: Any) -> str:
    try:
        node = yaml.compose(text)
    except yaml.YAMLError:
        return text
    for depth, key in enumerate(path):
        if not isinstance(node, yaml.MappingNode):
            return text
        pair = next((pair for pair in node.value if pair[0].value == key), None)
        if pair is None:
            return _add(text, node, None, path[depth:], value)
        name, found = pair
        if depth < len(path) - 1 and _is_empty(found):
            return _add(text, node, found, path[depth:], value)
        node = found
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        return f"{text[: name.end_mark.index]}: {_flow(value)}{text[_end(node) :]}"
    assert node is not None
    return text[: node.start_mark.index] + _flow(value) + text[_end(node) :]


def _is_empty(node: yaml.Node) -> bool:
    return not node.value or node.tag == "tag:yaml.org,2002:null"


def _add(text: str, node: yaml.MappingNode, empty: yaml.Node | None, path: Path, value: Any) -> str:
    """Adds the rest of a key to a mapping, in the place of its empty value if it has one."""
    if empty is None and not node.flow_style and node.start_mark.column == 0:
        keys = "\n".join(f"{'  ' * depth}{key}:" for depth, key in enumerate(path))
        return f"{text.rstrip()}\n\n{keys} {_flow(value)}\n"
    for key in reversed(path[1:]):
        value = {key: value}
    if empty is not None:
        gap = "" if text[empty.start_mark.index - 1].isspace() else " "
        return text[: empty.start_mark.index] + gap + _flow(value) + text[_end(empty) :]
    if node.flow_style:
        at = node.start_mark.index + 1
        return f"{text[:at]}{path[0]}: {_flow(value)}, {text[at:]}"
    line_end = text.find("\n", _end(node))
    at = len(text) if line_end < 0 else line_end
    return f"{text[:at]}\n{' ' * node.start_mark.column}{path[0]}: {_flow(value)}{text[at:]}"


def _end(node: yaml.Node) -> int:
    """Where a value's text ends; a block's mark is only at what follows it, beyond comments and line ends."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("...\n").rstrip("\n")
