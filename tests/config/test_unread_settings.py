"""What nobody would read is an error: a setting that has no effect is one whose effect somebody misses."""

from pathlib import Path

import pytest

from fetch import config
from fetch.config import SettingsError

NO_ENVIRONMENT: dict[str, str] = {}
HTTP = {"listen_client_urls": "http://127.0.0.1:2379", "anonymous_tenant": "guest"}


def refusal(flags: dict[str, str], environment: dict[str, str] = NO_ENVIRONMENT, file: Path | None = None) -> str:
    with pytest.raises(SettingsError) as refused:
        config.load({**HTTP, **flags}, environment, file)
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


def written(directory: Path, content: str) -> Path:
    path = directory / "fetch.toml"
    path.write_text(content)
    return path


def test_the_table_of_an_interceptor_that_is_in_no_chain_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "[interceptor.rate_limit]\nrate = 5\n")
    assert refusal({}, file=path) == f"{path}: nobody reads [interceptor.rate_limit]: it is in neither chain"


def test_the_table_of_an_interceptor_that_is_misspelt_is_named_with_the_one_that_is_meant(tmp_path: Path) -> None:
    path = written(tmp_path, "interceptors = ['+rate_limit']\n[interceptor.rate-limit]\nrate = 5\n")
    assert refusal({}, file=path).endswith(
        "[interceptor.rate-limit]: it is in neither chain: did you mean 'rate_limit'?"
    )


@pytest.mark.parametrize("chain", ["interceptors", "transaction-interceptors"])
def test_the_table_of_an_interceptor_is_read_in_either_chain(tmp_path: Path, chain: str) -> None:
    path = written(tmp_path, f"{chain} = ['+mine']\n[interceptor.mine]\nrate = 5\n")
    assert config.load(HTTP, NO_ENVIRONMENT, path).interceptor_settings == {"mine": {"rate": 5}}


def test_a_table_is_read_where_a_flag_puts_its_interceptor_into_the_chain(tmp_path: Path) -> None:
    path = written(tmp_path, "[interceptor.mine]\nrate = 5\n")
    config.load({**HTTP, "interceptors": "+mine"}, NO_ENVIRONMENT, path)


@pytest.mark.parametrize("variable", ["FETCH_BOGUS", "FETCH_", "FETCH_max_txn_ops", "FETCH_CONFIG"])
def test_a_variable_that_there_is_not_is_named(variable: str) -> None:
    assert refusal({}, {variable: "1"}).startswith(f"{variable}: there is no such setting")


def test_a_misspelt_variable_is_told_which_is_meant() -> None:
    assert refusal({}, {"FETCH_TENNANTS": "alpha"}) == (
        "FETCH_TENNANTS: there is no such setting: did you mean FETCH_TENANTS?"
    )


@pytest.mark.parametrize("variable", ["FETCH_WORKER", "FETCH_TEST_ETCD", "PREFETCH_X", "fetch_x", "PATH"])
def test_variables_that_are_no_settings_are_let_be(variable: str) -> None:
    config.load(HTTP, {variable: "1"}, None)


@pytest.mark.parametrize(
    "variable",
    [
        "FETCH_SERVICE_HOST",
        "FETCH_SERVICE_PORT",
        "FETCH_SERVICE_PORT_CLIENT",
        "FETCH_PORT",
        "FETCH_PORT_2379_TCP",
        "FETCH_PORT_2379_TCP_PROTO",
        "FETCH_PORT_2379_TCP_PORT",
        "FETCH_PORT_2379_TCP_ADDR",
        "FETCH_METRICS_SERVICE_HOST",
        "FETCH_METRICS_PORT_9090_TCP",
    ],
)
def test_what_kubernetes_puts_into_the_environment_for_a_service_of_this_name_is_let_be(variable: str) -> None:
    config.load(HTTP, {variable: "tcp://10.0.0.1:2379"}, None)


@pytest.mark.parametrize("name", ["tenants", "listen_client_urls", "advertise_client_urls", "listen_metrics_urls"])
@pytest.mark.parametrize("value", ["", ",", " , "])
def test_an_empty_list_is_refused(name: str, value: str) -> None:
    sentence = refusal({name: value})
    assert sentence == f"--{name.replace('_', '-')} is empty: leave it out for its default"


def test_an_empty_list_of_the_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "tenants = []\n")
    assert refusal({}, file=path) == f"{path}: tenants is empty: leave it out for its default"


def test_an_empty_chain_is_one(tmp_path: Path) -> None:
    path = written(tmp_path, "interceptors = []\n")
    assert config.load(HTTP, NO_ENVIRONMENT, path).interceptors == ()


@pytest.mark.parametrize("name", ["data_dir", "fdb_cluster_file", "cert_file", "anonymous_tenant"])
def test_an_empty_text_is_refused(name: str) -> None:
    assert refusal({}, {f"FETCH_{name.upper()}": ""}) == f"FETCH_{name.upper()} is empty: leave it out for its default"


@pytest.mark.parametrize(
    ("content", "meant"),
    [("max-txn-op = 1", "max-txn-ops"), ("max_txn_ops = 1", "max-txn-ops"), ("tenant = 'a'", "tenants")],
)
def test_a_misspelt_key_is_told_which_is_meant(tmp_path: Path, content: str, meant: str) -> None:
    assert refusal({}, file=written(tmp_path, content)).endswith(f": did you mean {meant!r}?")


def test_what_is_like_nothing_is_told_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, "bogus = 1")
    assert refusal({}, file=path) == f"{path}: there is no setting 'bogus'"
