"""A server with the interface of `grpc.aio.server()` whose HTTP/2 is done in Rust, outside the interpreter.

    server = fetch_transport.server(options=[("grpc.max_receive_message_length", 2 << 20)])
    server.add_generic_rpc_handlers((handlers,))
    server.add_secure_port("0.0.0.0:2379", fetch_transport.ssl_server_credentials([(key, chain)], ca, True))
    await server.start()

Handlers are grpcio's (`grpc.unary_unary_rpc_method_handler` and its kin) with coroutine functions or async
generators, and get a `grpc.aio.ServicerContext`: they do not know which server runs them. The exception is
`ssl_server_credentials`, since grpcio's own object cannot be looked into.
"""

from fetch_transport._credentials import ServerCredentials, ssl_server_credentials
from fetch_transport._server import Server, server

__all__ = ["Server", "ServerCredentials", "server", "ssl_server_credentials"]
