"""Interceptors for fetch: a maintenance window, and an audit log."""
