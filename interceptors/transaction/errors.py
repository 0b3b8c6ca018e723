"""Errors: reports what goes wrong inside the storage transaction, before its write is undone.

Settings: none.
"""

import logging

from fetch.chain import ProceedMutation, Setup
from fetch.engine.batch import Mutation
from fetch.errors import EtcdError

logger = logging.getLogger(__name__)


class Errors:
    """Counts refused and failed mutations by error; logs those that are nobody's answer but a defect."""

    def __init__(self, setup: Setup) -> None:
        self._failures = setup.instruments.counter(
            "fetch.mutation.failures", "Mutations that were refused or failed.", ("kind", "error")
        )

    async def intercept(self, mutation: Mutation, proceed: ProceedMutation) -> None:
        """The error goes on to the caller as it is."""
        try:
            await proceed(mutation)
        except EtcdError as error:
            self._failures.add((mutation.kind, type(error).__name__))
            raise
        except Exception as error:
            self._failures.add((mutation.kind, type(error).__name__))
            logger.exception("a %s failed inside the storage transaction", mutation.kind)
            raise
