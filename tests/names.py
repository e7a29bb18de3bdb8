"""Names of columns for property tests: any text, and often one that meets another name or a language's words."""

from __future__ import annotations

from hypothesis import strategies as st

_TAKEN = ["ad", "AD", "Ad", "class", "self", "column_1", "column_2", "hour", "route", "creative_embedding", "1", "a.b"]
_TAKEN += ["Creative_Embedding", "image_status", "image_status_", "ad_known", "ad_known_", "a/b", "x" * 300, "[red]"]
_TAKEN += [
    "\N{GRINNING FACE}" * 200,
    '"',
    "\\",
    "{0}",
    "%s",
    " a",
    "a ",
    "null",
    "yes",
    "a: b",
    "# a",
    "=",
    "a=b",
    "examples",
]


def column_names() -> st.SearchStrategy[str]:
    """A name. What stands in a file for a character that could not be read, or for the end of a text, is none."""
    character = st.characters(exclude_categories=["Cs"], exclude_characters="\x00\ufffd")
    return st.sampled_from(_TAKEN) | st.text(character, min_size=1, max_size=40).filter(str.strip)
