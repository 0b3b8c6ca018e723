"""fetch's own gRPC services, compiled at install from `protos/`."""
