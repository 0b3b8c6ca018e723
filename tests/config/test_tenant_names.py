"""What a tenant may be called."""

import pytest

from fetch.tenants.names import validate_tenant_name


@pytest.mark.parametrize(
    "name", ["a", "alpha-1", "x" * 253, "spiffe://cluster/ns/alpha", "alpha.example:443", "me@x_y"]
)
def test_names_of_certificates_are_names_of_tenants(name: str) -> None:
    validate_tenant_name(name)


@pytest.mark.parametrize("name", ["", " alpha", "alpha ", "alpha\n", "a\0b", "ä", "a,b", "*", "x" * 254])
def test_anything_else_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="tenant's name"):
        validate_tenant_name(name)
