"""Values that JSON has no kind of its own for: whole numbers with bounds, and bytes."""

import binascii
import re
from collections.abc import Callable, Generator

from fetch.http.gateway.fields import Kind

BOUNDS = {
    Kind.INT64: (-(1 << 63), (1 << 63) - 1),
    Kind.UINT64: (0, (1 << 64) - 1),
    Kind.UINT32: (0, (1 << 32) - 1),
    Kind.ENUM: (-(1 << 31), (1 << 31) - 1),
}
"""The kinds of numbers, and the least and the most of each."""

_NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_MOST_DIGITS = 40
_LONGEST = 64 << 10
_PIECE = 64 << 10
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def bytes_of(text: bytes, is_spent: Callable[[], bool]) -> Generator[None, None, bytes | None]:
    """The bytes of base64 with either alphabet, padded or not; None where it is none. Yields when a slice of time is
    over."""
    is_url_safe = b"-" in text or b"_" in text
    if is_url_safe and (b"+" in text or b"/" in text):
        return None
    if len(text) % 4:
        if b"=" in text:
            return None
        text += b"=" * (-len(text) % 4)
    if b"\n" in text or b"\r" in text:  # which Go passes over
        text = text.replace(b"\n", b"").replace(b"\r", b"")
    parts: list[bytes] = []
    for at in range(0, len(text), _PIECE):
        piece = text[at : at + _PIECE]
        if b"=" in piece and at + _PIECE < len(text):
            return None
        try:
            parts.append(binascii.a2b_base64(piece.translate(_URL_SAFE) if is_url_safe else piece, strict_mode=True))
        except binascii.Error:
            return None
        if is_spent():
            yield
    return b"".join(parts)


def number_of(raw: str, kind: Kind) -> int | None:
    """The whole number that this is, however it is written; None where it is none of its kind.

    Written it may be in any way: `1`, `1.0`, `10e-1`.
    """
    matched = _NUMBER.fullmatch(raw) if len(raw) <= _LONGEST else None
    if matched is None:
        return None
    sign, whole, part, exponent = matched.groups()
    digits, shift = whole + (part or ""), -len(part or "")
    if exponent:
        if len(exponent) > _MOST_DIGITS:
            return None
        shift += int(exponent)
    stripped = digits.lstrip("0")
    if not stripped:
        return 0
    if shift < 0:
        if stripped[shift:].strip("0") or len(stripped) <= -shift:
            return None
        stripped = stripped[:shift]
    elif shift > _MOST_DIGITS:
        return None
    else:
        stripped += "0" * shift
    if len(stripped) > _MOST_DIGITS:
        return None
    number = int(sign + stripped)
    least, most = BOUNDS[kind]
    return number if least <= number <= most else None
