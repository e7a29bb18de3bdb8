"""What is wrong with a body that is no JSON and where, in the words of TensorFlow Serving's parser.

The states and words are RapidJSON's (its iterative parser); https://rapidjson.org/md_doc_internals.html describes both.
"""

from __future__ import annotations

import re
from enum import Enum, auto

_SPACE = re.compile(rb"[ \t\r\n]*")
_STRING_RUN = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX = re.compile(rb"[0-9a-fA-F]{4}")
_ESCAPES = b'"\\/bfnrt'
_LITERALS = {b"t": b"true", b"f": b"false", b"n": b"null"}


class _State(Enum):
    """Where the parser is."""

    START = auto()
    ARRAY_BEGUN = auto()
    ELEMENT = auto()
    ELEMENT_DELIMITER = auto()
    OBJECT_BEGUN = auto()
    MEMBER_DELIMITER = auto()
    KEY = auto()
    COLON = auto()
    MEMBER = auto()


#: What it says of anything that may not stand there.
_WORDS = {
    _State.START: "The document is empty.",
    _State.ARRAY_BEGUN: "Invalid value.",
    _State.ELEMENT: "Missing a comma or ] after an array element.",
    _State.ELEMENT_DELIMITER: "Invalid value.",
    _State.OBJECT_BEGUN: "Missing a name for object member.",
    _State.MEMBER_DELIMITER: "Missing a name for object member.",
    _State.KEY: "Missing a colon after a name of object member.",
    _State.COLON: "Invalid value.",
    _State.MEMBER: "Missing a comma or } after an object member.",
}
_BEFORE_VALUE = (_State.START, _State.ARRAY_BEGUN, _State.ELEMENT_DELIMITER, _State.COLON)
_BEFORE_KEY = (_State.OBJECT_BEGUN, _State.MEMBER_DELIMITER)
_CLOSING = {
    (_State.ARRAY_BEGUN, b"]"),
    (_State.ELEMENT, b"]"),
    (_State.OBJECT_BEGUN, b"}"),
    (_State.MEMBER, b"}"),
}
_NEXT = {
    (_State.ELEMENT, b","): _State.ELEMENT_DELIMITER,
    (_State.MEMBER, b","): _State.MEMBER_DELIMITER,
    (_State.KEY, b":"): _State.COLON,
}


class _Fault(Exception):
    """What is wrong, and the offset of the byte."""

    def __init__(self, words: str, offset: int) -> None:
        super().__init__(f"{words} at offset: {offset}")


def first_fault(body: bytes) -> str | None:
    """The first fault of a body, `Invalid value. at offset: 4`; None if it begins with a whole document."""
    try:
        _scan(body)
    except _Fault as fault:
        return str(fault)
    return None


def _scan(body: bytes) -> None:
    offset = 3 if body.startswith(b"\xef\xbb\xbf") else 0
    open_brackets: list[bytes] = []
    state = _State.START
    while True:
        offset = _after(_SPACE, body, offset)
        character = body[offset : offset + 1]
        if (state, character) in _CLOSING:
            open_brackets.pop()
            offset += 1
        elif (state, character) in _NEXT:
            state = _NEXT[state, character]
            offset += 1
            continue
        elif state in _BEFORE_KEY and character == b'"':
            offset = _string(body, offset)
            state = _State.KEY
            continue
        elif state in _BEFORE_VALUE and character not in (b"", b"\0", b",", b":", b"]", b"}"):
            if character in (b"[", b"{"):
                open_brackets.append(character)
                state = _State.ARRAY_BEGUN if character == b"[" else _State.OBJECT_BEGUN
                offset += 1
                continue
            offset = _scalar(body, offset, character)
        else:
            raise _Fault(_WORDS[state], offset)
        if not open_brackets:
            return
        state = _State.ELEMENT if open_brackets[-1] == b"[" else _State.MEMBER


def _after(pattern: re.Pattern[bytes], body: bytes, offset: int) -> int:
    match = pattern.match(body, offset)
    return match.end() if match else offset


def _scalar(body: bytes, offset: int, character: bytes) -> int:
    if character == b'"':
        return _string(body, offset)
    if character in _LITERALS:
        return _word(body, offset, _LITERALS[character])
    return _number(body, offset)


def _word(body: bytes, offset: int, word: bytes) -> int:
    for expected in word:
        if body[offset : offset + 1] != bytes([expected]):
            raise _Fault("Invalid value.", offset)
        offset += 1
    return offset


def _string(body: bytes, offset: int) -> int:
    offset += 1
    while True:
        offset = _after(_STRING_RUN, body, offset)
        character = body[offset : offset + 1]
        if character == b'"':
            return offset + 1
        if character in (b"", b"\0"):
            raise _Fault("Missing a closing quotation mark in string.", offset)
        if character != b"\\":
            raise _Fault("Invalid encoding in string.", offset)
        offset = _escape(body, offset)


def _escape(body: bytes, offset: int) -> int:
    kind = body[offset + 1 : offset + 2]
    if kind and kind in _ESCAPES:
        return offset + 2
    if kind != b"u":
        raise _Fault("Invalid escape character in string.", offset)
    code = _code_unit(body, offset, offset)
    if not 0xD800 <= code <= 0xDFFF:
        return offset + 6
    if code > 0xDBFF or body[offset + 6 : offset + 8] != b"\\u":
        raise _Fault("The surrogate pair in string is invalid.", offset)
    if not 0xDC00 <= _code_unit(body, offset + 6, offset) <= 0xDFFF:
        raise _Fault("The surrogate pair in string is invalid.", offset)
    return offset + 12


def _code_unit(body: bytes, offset: int, blamed: int) -> int:
    match = _HEX.match(body, offset + 2)
    if match is None:
        raise _Fault("Incorrect hex digit after \\u escape in string.", blamed)
    return int(match[0], 16)


_DIGITS = re.compile(rb"[0-9]*")


def _number(body: bytes, start: int) -> int:
    offset = start + (body[start : start + 1] == b"-")
    first = body[offset : offset + 1]
    if first == b"N":
        return _word(body, offset, b"NaN")
    if first == b"I":
        offset = _word(body, offset, b"Inf")
        return _word(body, offset, b"inity") if body[offset : offset + 1] == b"i" else offset
    if not first.isdigit():
        raise _Fault("Invalid value.", offset)
    offset = offset + 1 if first == b"0" else _after(_DIGITS, body, offset)
    if body[offset : offset + 1] == b".":
        offset = _digits(body, offset + 1, "Miss fraction part in number.")
    if body[offset : offset + 1] in (b"e", b"E"):
        offset += 1
        offset += body[offset : offset + 1] in (b"+", b"-")
        offset = _digits(body, offset, "Miss exponent in number.")
    if abs(float(body[start:offset])) == float("inf"):
        raise _Fault("Number too big to be stored in double.", start)
    return offset


def _digits(body: bytes, offset: int, fault: str) -> int:
    end = _after(_DIGITS, body, offset)
    if end == offset:
        raise _Fault(fault, offset)
    return end
