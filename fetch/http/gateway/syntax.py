"""The tokens of JSON, and what Go's `encoding/json` says of a text that is none (`scanner.go`).

A token is at most as long as is looked at within a fraction of a millisecond; longer ones come in pieces.
"""

import re

PIECE = 64 << 10
SPACE = re.compile(rb"[ \t\r\n]{0,%d}" % PIECE)
SHORT_STRING = re.compile(rb'"([^"\\\x00-\x1f]{0,%d})"' % PIECE)
PLAIN = re.compile(rb'[^"\\\x00-\x1f]{0,%d}' % PIECE)
ESCAPES = re.compile(rb'(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})){0,%d}' % (PIECE // 6))
NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]{0,%d})(?:\.[0-9]{1,%d})?(?:[eE][+-]?[0-9]{1,%d})?" % ((PIECE,) * 3))
LITERALS = {b"t": b"true", b"f": b"false", b"n": b"null"}

DEEPEST = 10_000
EOF = "unexpected EOF"

_ESCAPE = re.compile(rb"\\(?:[\"\\/bfnrt]|u[0-9a-fA-F]{4})")


class SyntaxFailure(Exception):  # noqa: N818  a text's, and not ours
    """The text is not JSON; in Go's words."""


def unexpected(text: bytes, at: int, where: str) -> SyntaxFailure:
    """A byte that cannot stand there, or the end of the text."""
    if at >= len(text):
        return SyntaxFailure(EOF)
    return SyntaxFailure(f"invalid character {quoted(text[at])} {where}")


def quoted(byte: int) -> str:
    """A byte as Go shows it."""
    match chr(byte):
        case "'":
            return r"'\''"
        case '"':
            return "'\"'"
        case "\\":
            return r"'\\'"
        case character:
            named = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}
            shown = named.get(character)
            if shown is None:
                shown = character if character.isprintable() else rf"\x{byte:02x}" if byte < 128 else rf"\u{byte:04x}"
            return f"'{shown}'"


def broken_string(text: bytes, at: int) -> SyntaxFailure:
    """Why a string does not go on at this place, where it has neither a plain character nor an escape nor its end."""
    if text[at : at + 1] != b"\\":
        return unexpected(text, at, "in string literal")
    if text[at + 1 : at + 2] != b"u":
        return unexpected(text, at + 1, "in string escape code")
    place = next((place for place in range(at + 2, at + 6) if text[place : place + 1] not in _HEX), at + 6)
    return unexpected(text, place, r"in \u hexadecimal character escape")


_HEX = [bytes((byte,)) for byte in b"0123456789abcdefABCDEF"]


def number_at(text: bytes, at: int) -> int:
    """Where a number ends that begins here.

    :raises SyntaxFailure:
    """
    matched = NUMBER.match(text, at)
    if matched is None:
        raise unexpected(text, at + 1, "in numeric literal")
    end = matched.end()
    behind = text[end : end + 1]
    if behind == b"." and b"." not in matched[0] and b"e" not in matched[0].lower():
        raise unexpected(text, end + 1, "after decimal point in numeric literal")
    if behind in (b"e", b"E") and b"e" not in matched[0].lower():
        signed = text[end + 1 : end + 2] in (b"+", b"-")
        raise unexpected(text, end + 1 + signed, "in exponent of numeric literal")
    return end


def literal_at(text: bytes, at: int) -> bytes:
    """The literal that begins here.

    :raises SyntaxFailure:
    """
    literal = LITERALS.get(text[at : at + 1])
    if literal is None:
        raise unexpected(text, at, "looking for beginning of value")
    for place, byte in enumerate(literal):
        if text[at + place : at + place + 1] != bytes((byte,)):
            raise unexpected(text, at + place, f"in literal {literal.decode()} (expecting {quoted(byte)})")
    return literal
