"""What the words of texts add to a click logit, as the model's own graph takes texts apart (`models/text.py`).

What is a letter, which characters stand alone, and how they are made small comes with the model, not from Python, whose
Unicode is another in each version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .fingerprint import bucket_of

Floats32 = np.ndarray[Any, np.dtype[np.float32]]

_LONGEST_WORD = 24
_PART_CHARACTERS = 4
_SIGMA, _LAST_SIGMA = "\u03a3", "\u03c2"
#: As `models.text` has them in RE2's words: letters without regard to case are spelled out, as RE2 folds only those.
_S = "[sS\u017f]"
_SCRIPT = f"(?:{_S}[cC][rR][iI][pP][tT]|{_S}[tT][yY][lL][eE])"
_REPLACEMENTS = (
    (re.compile(rf"<{_SCRIPT}(?![0-9A-Za-z_]).*?</{_SCRIPT}[\t\n\f\r ]*>", re.DOTALL), " "),
    (re.compile(r"<!--.*?-->", re.DOTALL), " "),
    (re.compile(r"</?[a-zA-Z][^<>]*>|<![^<>]*>"), " "),
    (re.compile(r"&([a-zA-Z])(?:acute|grave|circ|uml|tilde|cedil|ring|slash|caron);"), r"\1"),
    (re.compile("&(?:apos|rsquo|lsquo|#0*39|#0*8217|#x27);|['\u2019\u02bc]"), ""),
    (re.compile(r"&(?:[a-zA-Z][a-zA-Z0-9]*|#[0-9]+|#x[0-9a-fA-F]+);"), " "),
)


class Alphabet:
    """What the model takes for words.

    Args:
        facts: `letters` and `alone`: ranges of code points, first and last; `small`: by code point, the text that it is
            made small to; `cased` and `ignorable`: ranges, by which a sigma is a word's last one (Unicode 3.13).
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._alone = re.compile(f"([{_class(facts['alone'])}])")
        self._between = re.compile(f"[^{_class(facts['letters'])}]+")
        self._small = {int(point): text for point, text in facts["small"].items()}
        cased, ignorable = _class(facts["cased"]), _class(facts["ignorable"])
        self._last_sigma = None
        if cased:
            skipped = f"[{ignorable}]*" if ignorable else ""
            # What may be skipped is no cased letter here, even where it is one.
            letter = f"(?![{ignorable}])[{cased}]" if ignorable else f"[{cased}]"
            self._last_sigma = re.compile(f"(?P<before>{letter}{skipped}){_SIGMA}(?!{skipped}{letter})")

    def words(self, text: str, most: int) -> list[str]:
        """The words of a text, small, cut where they are long."""
        for pattern, replacement in _REPLACEMENTS:
            text = pattern.sub(replacement, text)
        text = self._between.sub(" ", self._alone.sub(r" \1 ", text))
        return [word[:_LONGEST_WORD] for word in self._lower(text).split(" ") if word][:most]

    def _lower(self, text: str) -> str:
        if _SIGMA in text and self._last_sigma is not None:
            text = self._last_sigma.sub(lambda match: match.group("before") + _LAST_SIGMA, text)
        return text.translate(self._small)


def _class(ranges: Sequence[Sequence[int]]) -> str:
    """Ranges of code points as the inside of a regular expression's class."""
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


class DeviceWordEffects:
    """The effects of one column's texts.

    Args:
        alphabet: What words are.
        most_words: How many of a text are read.
        weights: float32 [buckets], the effects of words, pairs of words and parts of words.
    """

    def __init__(self, alphabet: Alphabet, most_words: int, weights: Floats32) -> None:
        self._alphabet, self._most_words, self._weights = alphabet, most_words, weights
        self._of_text = lru_cache(maxsize=4096)(self._effect)

    def effects(self, texts: Sequence[str]) -> Floats32:
        """What each text adds to the logit, float32 [texts]."""
        return np.array([self._of_text(text) for text in texts], np.float32)

    def _effect(self, text: str) -> float:
        words = self._alphabet.words(text, self._most_words)
        tokens = [f"w {word}" for word in words]
        tokens += [f"p {first} {second}" for first, second in zip(words, words[1:])]
        for word in words:
            marked = f"<{word}>"
            places = range(len(marked) - _PART_CHARACTERS + 1)
            tokens += [f"c {marked[place : place + _PART_CHARACTERS]}" for place in places]
        if not tokens:
            return 0.0
        buckets = [bucket_of(token.encode(), len(self._weights)) for token in tokens]
        return float(self._weights[buckets].sum(dtype=np.float64) / len(tokens) ** 0.5)
