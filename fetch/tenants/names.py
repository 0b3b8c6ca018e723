"""What a tenant may be called."""

import re

_LONGEST = 253
_NAME = re.compile(r"[A-Za-z0-9._:/@-]+")


def validate_tenant_name(name: str) -> None:
    """Tenant names are letters, digits and `._:/@-`, so that host names, e-mail addresses and SPIFFE IDs fit.

    :raises ValueError: a sentence that says what is wrong
    """
    if not name:
        raise ValueError("a tenant's name must not be empty")
    if len(name) > _LONGEST:
        raise ValueError(f"a tenant's name has at most {_LONGEST} characters")
    if not _NAME.fullmatch(name):
        raise ValueError(f"a tenant's name is made of letters, digits and ._:/@- only, not {name!r}")
