"""Tenants as things that are managed. The engine of each is `fetch.engine`'s."""
