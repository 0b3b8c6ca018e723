"""gRPC's own interoperability cases, with its client in Go where `grpc-go-interop-client` is on the path.

GOBIN=... go install google.golang.org/grpc/interop/client@latest    # and name it so
"""

import asyncio
import pathlib
import shutil

import interop
import pytest
from certificates import Authority, Identity
from conftest import BOUND, Kind

CLIENT = shutil.which("grpc-go-interop-client")
CASES = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
]


@pytest.mark.skipif(CLIENT is None, reason="grpc-go-interop-client is not on the path")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_the_go_clients_case_passes(
    kind: Kind, authority: Authority, server_identity: Identity, tmp_path: pathlib.Path, case: str, *, tls: bool
) -> None:
    server = kind.server()
    server.add_generic_rpc_handlers(interop.handlers())
    arguments = [f"--test_case={case}", "--server_host=127.0.0.1"]
    if tls:
        roots = tmp_path / "ca"
        roots.write_bytes(authority.pem)
        pair = (server_identity.key, server_identity.certificate)
        port = server.add_secure_port("127.0.0.1:0", kind.ssl_server_credentials([pair]))
        arguments += ["--use_tls", "--use_test_ca", f"--ca_file={roots}", "--server_host_override=127.0.0.1"]
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    assert CLIENT is not None
    pipe = asyncio.subprocess.PIPE
    client = await asyncio.create_subprocess_exec(CLIENT, *arguments, f"--server_port={port}", stderr=pipe)
    try:
        _, output = await asyncio.wait_for(client.communicate(), BOUND)
    finally:
        if client.returncode is None:
            client.kill()
        await server.stop(None)
    assert client.returncode == 0, output.decode()
