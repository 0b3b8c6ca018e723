"""Exceptions that nobody has foreseen: the log has them, their clients do not."""

import logging
import secrets

_LOGGER = logging.getLogger(__name__)


def internal_error(where: str) -> str:
    """Logs the exception that is being handled, and gives the words for the client: nothing of it but where to look.

    An exception's text may hold what is not the client's, and its type is no word of the protocol's.
    """
    identity = secrets.token_hex(8)
    _LOGGER.exception("Internal error %s in [%s]", identity, where)
    return f"Internal error {identity}"
