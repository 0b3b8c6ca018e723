"""The operation chain, inside the storage transaction: one module an interceptor."""
