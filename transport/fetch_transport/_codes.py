"""Status codes as numbers."""

from typing import Any

import grpc

OK = 0
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def number_of(code: Any) -> int:
    """The number of a status code, which may be given as one; UNKNOWN for a number that gRPC does not have."""
    if isinstance(code, grpc.StatusCode):
        return int(code.value[0])
    if isinstance(code, int):
        return code if code in _CODES else int(grpc.StatusCode.UNKNOWN.value[0])
    raise ValueError(f"status code must be grpc.StatusCode or int, not {code!r}")
