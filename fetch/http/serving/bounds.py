"""What one client may take of the server."""

HEAD_BYTES = 64 << 10
"""The largest head of a request. Go's is 1 MiB."""
HEAD_SECONDS = 10.0
"""How long a head may take from its first byte on."""
IDLE_SECONDS = 120.0
"""How long a connection may be open on which nothing is asked."""
HANDSHAKE_SECONDS = 10.0
READ_BYTES = 16 << 10
"""What is read of a connection at once, and what may have come of a next request while one is answered."""
WINDOW_BYTES = 64 << 10
"""What may have come of a request over HTTP/2 and not been taken."""
STREAMS = 100
"""Requests at once on a connection over HTTP/2, of which none waits for another."""
RESETS = 200
"""How many more requests of a connection may be given up by the client than are answered."""
CONNECTIONS = 4096
CONNECTIONS_OF_A_CLIENT = 512
UNREAD_BYTES = 16 << 20
"""How much of a request is passed over that has been answered before it was whole, so that the answer is read."""
UNREAD_SECONDS = 2.0
