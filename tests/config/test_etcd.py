"""What starts an etcd starts fetch: etcd's flags and variables are read, told to do nothing, or refused."""

import re
import subprocess

import pytest

from fetch import cli, config
from fetch.config import SettingsError, declared, etcd
from fetch.config.setting import flag_of
from tests.endpoints.etcd import find_etcd
from tests.endpoints.server import Missing

NO_ENVIRONMENT: dict[str, str] = {}
HTTP = ["--listen-client-urls=http://127.0.0.1:1", "--anonymous-tenant=guest"]


def load(*arguments: str, environment: dict[str, str] = NO_ENVIRONMENT) -> config.Settings:
    """The settings that `fetch serve` has with these arguments."""
    options = cli.parse(["serve", *HTTP, *arguments])
    return config.load(config.flags.given(options), environment, None)


def told(*arguments: str, environment: dict[str, str] = NO_ENVIRONMENT) -> str:
    """The line at start."""
    line = etcd.check(etcd.given(cli.parse(["serve", *HTTP, *arguments])), environment)
    assert "\n" not in line
    return line


def refusal(*arguments: str, environment: dict[str, str] = NO_ENVIRONMENT) -> str:
    with pytest.raises(SettingsError) as refused:
        told(*arguments, environment=environment)
    return str(refused.value)


def test_the_flags_of_an_etcds_unit_file_are_accepted_and_one_line_says_why_they_do_nothing() -> None:
    unit = """--name infra0 --initial-advertise-peer-urls https://10.0.1.10:2380 --listen-peer-urls https://10.0.1.10:2380
      --initial-cluster-token etcd-cluster-1 --initial-cluster infra0=https://10.0.1.10:2380 --initial-cluster-state new
      --client-cert-auth --peer-client-cert-auth --peer-trusted-ca-file ca.crt --snapshot-count=10000 --heartbeat-interval 100
      --auto-compaction-retention=8 --feature-gates=InitialCorruptCheck=true --experimental-initial-corrupt-check=true"""
    assert told(*unit.split()) == (
        "settings of etcd that do nothing here: "
        "--initial-cluster-token, --initial-cluster, --initial-cluster-state "
        "(daemons form no cluster, they share a store); "
        "--snapshot-count, --heartbeat-interval (there is no Raft and no log of it); "
        "--feature-gates, "
        "--experimental-initial-corrupt-check (etcd's experiments are of its own parts)"
    )


def test_peers_of_an_embedded_store_are_told_to_do_nothing() -> None:
    arguments = ["--listen-peer-urls=http://10.0.1.10:2380", "--peer-trusted-ca-file=none.crt", "--name=infra0"]
    assert load(*arguments).idle_peers == (
        "settings of peers do nothing here, since an embedded store is one daemon's: "
        "--listen-peer-urls, --initial-advertise-peer-urls, --peer-trusted-ca-file"
    )
    assert load("--name=infra0").idle_peers == ""


def test_peers_without_an_address_are_told_to_do_nothing() -> None:
    assert load("--fdb-cluster-file=fdb.cluster", "--peer-cert-file=peer.crt").idle_peers == (
        "settings of peers do nothing here, since --listen-peer-urls is not given: --peer-cert-file"
    )


def test_nothing_is_told_where_there_is_nothing_of_etcds() -> None:
    assert told() == ""


@pytest.mark.parametrize("flag", etcd.flags())
def test_a_flag_of_etcds_needs_no_value_to_be_read(flag: str) -> None:
    assert etcd.given(cli.parse(["serve", flag, *HTTP])) == {flag.removeprefix("--"): "true"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--experimental-x"],
        ["--experimental-x=1"],
        ["--experimental-x", "1"],
        ["--experimental-x", "--initial-cluster=x"],
    ],
)
def test_any_experiment_of_etcds_is_accepted(arguments: list[str]) -> None:
    assert "--experimental-x (" in told(*arguments)


def test_what_stands_behind_the_value_of_an_experiment_is_still_unknown() -> None:
    with pytest.raises(SettingsError, match="unrecognized argument bogus"):
        told("--experimental-x", "1", "bogus")


@pytest.mark.parametrize(
    "argument",
    [
        "--client-cert-auth=false",
        "--client-cert-auth=0",
        "--client-cert-auth=",
        "--client-cert-auth=maybe",
        "--auto-tls",
        "--auto-tls=true",
        "--client-cert-allowed-hostname=example.com",
        "--config-file=etcd.yaml",
    ],
)
def test_what_asks_for_something_that_fetch_does_not_do_is_refused(argument: str) -> None:
    flag = argument.partition("=")[0]
    assert refusal(argument).startswith(f"{flag}: ")


@pytest.mark.parametrize(
    "argument",
    [
        "--client-cert-auth",
        "--client-cert-auth=true",
        "--client-cert-auth=True",
        "--client-cert-auth=1",
        "--auto-tls=false",
        "--cipher-suites=",
        "--tls-min-version=TLS1.2",
        "--tls-max-version=TLS1.3",
        "--tls-max-version=",
    ],
)
def test_what_says_what_fetch_does_anyway_is_accepted_without_a_word(argument: str) -> None:
    assert told(argument) == ""


def test_a_certificate_is_not_left_away_by_a_variable_either() -> None:
    assert refusal(environment={"ETCD_CLIENT_CERT_AUTH": "false"}) == (
        "ETCD_CLIENT_CERT_AUTH: https:// listeners always require a client's certificate: it names the tenant"
    )


def test_variables_of_etcds_that_do_nothing_are_told_too() -> None:
    assert told(environment={"ETCD_INITIAL_CLUSTER": "infra0"}) == (
        "settings of etcd that do nothing here: ETCD_INITIAL_CLUSTER (daemons form no cluster, they share a store)"
    )


@pytest.mark.parametrize("variable", ["ETCD_NAME", "ETCD_CLIENT_CERT_AUTH", "ETCD_MAX_TXN_OPS"])
def test_an_empty_variable_of_etcds_is_none(variable: str) -> None:
    assert told(environment={variable: ""}) == ""
    assert load(environment={variable: ""}) == load()


@pytest.mark.parametrize("variable", ["ETCD_SERVICE_HOST", "ETCD_PORT", "ETCDCTL_API", "ETCD_UNSUPPORTED_ARCH"])
def test_variables_that_are_no_settings_of_etcds_are_let_be(variable: str) -> None:
    assert told(environment={variable: "1"}) == ""
    assert load(environment={variable: "1"}) == load()


def test_a_setting_that_fetch_shares_with_etcd_is_read_under_etcds_variable() -> None:
    assert load(environment={"ETCD_MAX_TXN_OPS": "5"}).max_txn_ops == 5


def test_fetchs_own_variable_and_its_flag_win_over_etcds() -> None:
    assert load(environment={"FETCH_MAX_TXN_OPS": "6", "ETCD_MAX_TXN_OPS": "5"}).max_txn_ops == 6
    assert load("--max-txn-ops=7", environment={"ETCD_MAX_TXN_OPS": "5"}).max_txn_ops == 7


def test_a_wrong_variable_of_etcds_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^ETCD_MAX_TXN_OPS: 'many'"):
        load(environment={"ETCD_MAX_TXN_OPS": "many"})


def test_an_etcds_directory_is_none_beside_a_foundationdb() -> None:
    with pytest.raises(SettingsError, match=r"^--fdb-cluster-file and ETCD_DATA_DIR exclude each other"):
        load("--fdb-cluster-file=fdb.cluster", environment={"ETCD_DATA_DIR": "default.etcd"})


@pytest.mark.parametrize("level", ["debug", "info", "warn", "error", "panic", "fatal"])
def test_etcds_levels_are_known(level: str) -> None:
    assert load(f"--log-level={level}").log_level in ("debug", "info", "warning", "error")


def test_a_setting_that_etcd_has_renamed_is_read_under_its_name_of_before() -> None:
    assert load("--experimental-watch-progress-notify-interval=5s").watch_progress_notify_interval == 5
    given = ["--experimental-watch-progress-notify-interval=5s", "--watch-progress-notify-interval=6s"]
    assert load(*given).watch_progress_notify_interval == 6
    environment = {"ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL": "7s"}
    assert load(environment=environment).watch_progress_notify_interval == 7
    assert told(*given, environment=environment) == ""


def test_no_flag_is_of_two_kinds() -> None:
    of_etcd = [key for keys in etcd.IDLE.values() for key in keys] + list(etcd.HELD) + list(etcd.RENAMED)
    assert len(of_etcd) == len(set(of_etcd))
    assert not {f"--{key}" for key in of_etcd} & set(map(flag_of, declared()))
    assert set(etcd.SHARED) <= set(declared())


def test_every_flag_of_a_real_etcd_is_known() -> None:
    found = find_etcd()
    if isinstance(found, Missing):
        pytest.skip(found.reason)
    help_ = subprocess.run([found.binary, "--help"], capture_output=True, text=True, check=False)
    flags = set(re.findall(r"^  (--[a-z0-9-]+)", help_.stdout + help_.stderr, re.MULTILINE))
    assert len(flags) > 80
    known = {*etcd.flags(), *map(flag_of, etcd.SHARED), "--version"}
    assert {flag for flag in flags - known if not flag.startswith("--experimental-")} == set()
