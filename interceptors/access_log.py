"""Access log: a line for each call: who, what, how it ended, how long it took. Off unless it is named in the chain.

Lines go to the logger `fetch.access` at level info, with the fields `tenant`, `kind`, `method`, `peer`, `code`, `took`
and, inside a trace, its ids; `--log-format json` makes each a JSON object. Streams are logged when they end.

Settings:
    kinds: only these kinds of operation are logged, a list such as ["create", "delete"]; by default all
"""

import logging
import time
from typing import Any

from fetch.chain import Call, Proceed, Setup, status_of
from fetch.chain.tables import read, texts

logger = logging.getLogger("fetch.access")


class AccessLog:
    """Logs calls when they end."""

    after = ("authorization", "classification")

    def __init__(self, setup: Setup) -> None:
        self._kinds = read(setup.table, {"kinds": texts}).get("kinds", ())

    async def intercept(self, call: Call, proceed: Proceed) -> Any:
        """The answer, or the error, goes on as it is."""
        if self._kinds and call.kind not in self._kinds:
            return await proceed(call)
        started = time.perf_counter()
        code = "OK"
        try:
            return await proceed(call)
        except BaseException as error:
            code = status_of(error)[0].name
            raise
        finally:
            fields = {
                "tenant": "" if call.tenant is None else call.tenant.tenant,
                "kind": call.kind,
                "method": call.method,
                "peer": call.peer(),
                "code": code,
                "took": f"{(time.perf_counter() - started) * 1e3:.3f}ms",
            }
            logger.info("call", extra={"fields": fields})
