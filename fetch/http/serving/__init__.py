"""A server of HTTP/1.1 and HTTP/2 for an ASGI application, on the parsers h11 and h2.

Servers that are to be had do not tell the application whose certificate the client has.
"""
