"""The status that a call ends with."""

import asyncio

import grpc
from google.protobuf.message import DecodeError

from fetch import errors
from fetch.stores.protocol import StoreFull, StoreUnavailable

INTERNAL = grpc.StatusCode.INTERNAL, "etcdserver: internal error"
"""Clients of etcd try again after INTERNAL, and give up after the UNKNOWN that gRPC would send."""


def status_of(error: BaseException) -> tuple[grpc.StatusCode, str]:
    """The status that a call ends with when this error leaves the chain."""
    match error:
        case errors.EtcdError():
            return error.code, error.text
        case DecodeError():
            return grpc.StatusCode.INTERNAL, f"grpc: error unmarshalling request: {error}"
        case StoreUnavailable() | StoreFull():
            answer = errors.of_store(error)
            return answer.code, answer.text
        case asyncio.CancelledError():
            return grpc.StatusCode.CANCELLED, "the client hung up"
        case _:
            return INTERNAL


def refusal_of(error: BaseException) -> str:
    """What operators call the refusal that an error is; empty for one that is none."""
    match error:
        case errors.EtcdError():
            return error.refusal
        case StoreFull():
            return "store_full"
        case _:
            return ""
