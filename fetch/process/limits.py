"""What the operating system lets one process have."""

import logging
import resource

ENOUGH_FILES = 65_536
"""Open files that a daemon should be allowed: each connection is one, and a kube-apiserver has about 70."""

logger = logging.getLogger(__name__)


def raise_open_files() -> None:
    """Raises the soft limit of open files to the hard one, which worker processes inherit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            logger.warning("the limit of open files stays at %d: %s", soft, error)
            hard = soft
        else:
            logger.info("the limit of open files is raised from %d to %s", soft, _named(hard))
    if hard != resource.RLIM_INFINITY and hard < ENOUGH_FILES:
        logger.warning("this process may open %d files, each connection is one: %d are advised", hard, ENOUGH_FILES)


def _named(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)
