"""The request chain: one module an interceptor."""
