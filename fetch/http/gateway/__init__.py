"""etcd's JSON gateway: its gRPC methods under `/v3/`, with messages in protobuf's mapping of JSON.

What grpc-gateway is to etcd, but no client of the gRPC server: a request passes the same chain and comes to the same
handlers as a gRPC call, in the same process.
"""
