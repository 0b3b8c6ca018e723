"""Whether the daemon can serve, which is whether its store can be used: health tells it to whoever spreads the load."""

import asyncio
import logging

from fetch.services.health import Health
from fetch.stores.protocol import Store, StoreUnavailable

_PROBE_SECONDS = 2.0
_PROBE_INTERVAL_SECONDS = 1.0

logger = logging.getLogger(__name__)


async def follow_store(store: Store, health: Health) -> asyncio.Task[None]:
    """Lets health say that the daemon serves as long as the store can be used.

    Returns what goes on doing so, once health knows.
    """

    async def follow(serving: bool) -> None:
        while True:
            await asyncio.sleep(_PROBE_INTERVAL_SECONDS)
            before, serving = serving, await _answers(store, quiet=not serving)
            if serving and not before:
                logger.info("the store can be used again")
            if serving != before:
                health.set_serving(serving=serving)

    serving = await _answers(store)
    health.set_serving(serving=serving)
    return asyncio.create_task(follow(serving))


async def _answers(store: Store, *, quiet: bool = False) -> bool:
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            await store.check()
    except (StoreUnavailable, TimeoutError) as error:
        if not quiet:
            logger.error("the store cannot be used: %s", str(error) or f"nothing within {_PROBE_SECONDS:g} s")  # noqa: TRY400
        return False
    except Exception:  # whatever it is, it must not end what health stands on
        logger.exception("the store cannot be looked at")
        return False
    return True
