"""Every wrong setting is one sentence that names it."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from fetch import config
from fetch.config import SettingsError
from fetch.tls import certificates
from fetch.tls.certificates import Certificate

NO_ENVIRONMENT: dict[str, str] = {}


def refusal(flags: dict[str, str], environment: dict[str, str] = NO_ENVIRONMENT, file: Path | None = None) -> str:
    """What is said to these settings."""
    with pytest.raises(SettingsError) as refused:
        config.load(flags, environment, file)
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("flag", ["listen_client_urls", "advertise_client_urls", "listen_metrics_urls"])
@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:2379", "ftp://127.0.0.1:1", "https://:2379", "https://localhost", "https://[::1", "http://h:99999"],
)
def test_a_bad_url_is_named_with_its_flag(tls: dict[str, str], flag: str, url: str) -> None:
    sentence = refusal({**tls, flag: url})
    assert f"--{flag.replace('_', '-')}" in sentence
    assert url in sentence


def test_there_must_be_a_listener(tls: dict[str, str]) -> None:
    assert "--listen-client-urls" in refusal({**tls, "listen_client_urls": ""})


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "[0::0]"])
def test_an_address_that_nobody_can_connect_to_is_not_advertised(tls: dict[str, str], host: str) -> None:
    urls = f"https://127.0.0.1:1,https://{host}:2"
    assert refusal({**tls, "listen_client_urls": urls}) == (
        f"--advertise-client-urls is required when --listen-client-urls is https://{host}:2: "
        "nobody can connect to that address"
    )
    advertised = {**tls, "listen_client_urls": urls, "advertise_client_urls": "https://fetch.example:2"}
    assert config.load(advertised, NO_ENVIRONMENT, None).advertise_client_urls == ("https://fetch.example:2",)


def test_metrics_are_not_served_over_https(tls: dict[str, str]) -> None:
    assert "--listen-metrics-urls" in refusal({**tls, "listen_metrics_urls": "https://127.0.0.1:1"})


@pytest.mark.parametrize("flag", ["max_request_bytes", "max_response_bytes", "max_txn_ops", "quota_backend_bytes"])
@pytest.mark.parametrize("value", ["many", "", "1.5", "1e3"])
def test_a_bad_number_is_named_with_its_flag(tls: dict[str, str], flag: str, value: str) -> None:
    sentence = refusal({**tls, flag: value})
    assert f"--{flag.replace('_', '-')}" in sentence
    assert repr(value) in sentence


@pytest.mark.parametrize("flag", ["max_request_bytes", "max_response_bytes", "max_txn_ops"])
@pytest.mark.parametrize("value", ["0", "-1"])
def test_a_bound_must_be_positive(tls: dict[str, str], flag: str, value: str) -> None:
    assert f"--{flag.replace('_', '-')}" in refusal({**tls, flag: value})


@pytest.mark.parametrize("value", ["10", "-1s", "10 m", "ten minutes", "", "1d", "0s"])
def test_a_bad_duration_is_named_with_its_flag(tls: dict[str, str], value: str) -> None:
    assert "--watch-progress-notify-interval" in refusal({**tls, "watch_progress_notify_interval": value})


@pytest.mark.parametrize(("flag", "value"), [("principal", "email"), ("log_level", "loud")])
def test_a_choice_that_there_is_not_is_named_with_those_there_are(tls: dict[str, str], flag: str, value: str) -> None:
    sentence = refusal({**tls, flag: value})
    assert value in sentence
    assert ("san-uri" if flag == "principal" else "warning") in sentence


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("anonymous_tenant", ""),
        ("anonymous_tenant", "a b"),
        ("tenants", "alpha,b*"),
        ("tenants", "é"),
        ("admin_principals", "a b"),
    ],
)
def test_an_invalid_tenant_name_is_named_with_its_flag(tls: dict[str, str], flag: str, value: str) -> None:
    assert f"--{flag.replace('_', '-')}" in refusal({**tls, flag: value})


def test_nobody_without_a_certificate_can_be_made_an_administrator(tls: dict[str, str]) -> None:
    sentence = refusal({**tls, "admin_principals": "root,guest", "anonymous_tenant": "guest"})
    assert "--admin-principals" in sentence
    assert "--anonymous-tenant" in sentence


@pytest.mark.parametrize("flag", ["cert_file", "key_file", "trusted_ca_file"])
def test_an_https_listener_needs_its_files(tls: dict[str, str], flag: str) -> None:
    del tls[flag]
    assert f"--{flag.replace('_', '-')}" in refusal(tls)


@pytest.mark.parametrize("flag", ["cert_file", "key_file", "trusted_ca_file"])
def test_a_file_that_cannot_be_read_is_named(tls: dict[str, str], tmp_path: Path, flag: str) -> None:
    sentence = refusal({**tls, flag: str(tmp_path)})
    assert f"--{flag.replace('_', '-')}" in sentence
    assert str(tmp_path) in sentence


@pytest.mark.parametrize("flag", ["cert_file", "key_file", "trusted_ca_file"])
@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_a_file_that_is_no_pem_is_refused(tls: dict[str, str], tmp_path: Path, flag: str, content: bytes) -> None:
    (tmp_path / "file.pem").write_bytes(content)
    assert f"--{flag.replace('_', '-')}" in refusal({**tls, flag: str(tmp_path / "file.pem")})


def test_a_key_of_another_certificate_is_refused(tls: dict[str, str], certs: Path) -> None:
    assert "--key-file" in refusal({**tls, "key_file": str(certs / "alpha.key")})


def test_an_encrypted_key_is_refused_without_asking_for_its_password(tls: dict[str, str], tmp_path: Path) -> None:
    server = certificates.issue(Certificate.read(Path(tls["cert_file"]).parent, "ca"), "localhost", server=True)
    server.write(tmp_path, "server")
    key = tmp_path / "server.key"
    key.write_bytes(
        server.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert "--key-file" in refusal({**tls, "cert_file": str(tmp_path / "server.crt"), "key_file": str(key)})


def test_an_http_listener_needs_the_tenant_of_its_callers(tls: dict[str, str]) -> None:
    urls = "https://127.0.0.1:1,http://127.0.0.1:2"
    assert "--anonymous-tenant" in refusal({**tls, "listen_client_urls": urls})


def test_two_stores_exclude_each_other(tls: dict[str, str]) -> None:
    sentence = refusal({**tls, "fdb_cluster_file": "fdb.cluster"}, {"FETCH_DATA_DIR": "data"})
    assert "--fdb-cluster-file" in sentence
    assert "--data-dir" in sentence


def test_a_wrong_variable_is_named(tls: dict[str, str]) -> None:
    assert "FETCH_MAX_TXN_OPS" in refusal(tls, {"FETCH_MAX_TXN_OPS": "many"})


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("bogus = 1", "bogus"),
        ("data_dir = 'data'", "data_dir"),
        ("[bogus]", "bogus"),
        ("max-txn-ops = 'many'", "max-txn-ops"),
        ("max-txn-ops = true", "max-txn-ops"),
        ("max-txn-ops = 1.5", "max-txn-ops"),
        ("tenants = [1]", "tenants"),
        ("data-dir = {}", "data-dir"),
        ("interceptor = 1", "interceptor"),
        ("interceptor.limits = 1", "interceptor"),
        ("data-dir = ", "not TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_the_file(
    tls: dict[str, str], tmp_path: Path, content: str, named: str
) -> None:
    path = tmp_path / "fetch.toml"
    path.write_text(content)
    sentence = refusal(tls, file=path)
    assert str(path) in sentence
    assert named in sentence


def test_a_file_that_is_not_text_is_refused(tls: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "fetch.toml").write_bytes(b"\xff")
    assert "--config" in refusal(tls, file=tmp_path / "fetch.toml")


def test_a_file_that_is_not_there_is_named(tls: dict[str, str], tmp_path: Path) -> None:
    assert str(tmp_path / "none.toml") in refusal(tls, file=tmp_path / "none.toml")
