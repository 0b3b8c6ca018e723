"""`--help` tells everything that one needs to know of a setting."""

import re

import pytest

from fetch import cli
from fetch.config import declared, flags
from fetch.config.setting import Setting, flag_of, variable_of


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The help of `fetch serve`, as one line."""
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", "--help"])
    assert ended.value.code == 0
    return re.sub(r"\s+", " ", capsys.readouterr().out)


@pytest.mark.parametrize(("name", "setting"), declared().items())
def test_of_each_setting_its_flag_its_values_its_default_and_its_variable_are_told(
    told: str, name: str, setting: Setting
) -> None:
    default = f"default: {setting.told_default}; " if setting.told_default else ""
    assert f"{flag_of(name)} {setting.reader.form} {setting.description} ({default}{variable_of(name)})" in told


@pytest.mark.parametrize("name", declared())
def test_each_setting_is_in_one_group(name: str) -> None:
    assert sum(name in names for names in flags.GROUPS.values()) == 1


def test_groups_have_nothing_else() -> None:
    assert {name for names in flags.GROUPS.values() for name in names} == set(declared())


@pytest.mark.parametrize("title", flags.GROUPS)
def test_each_group_is_told(told: str, title: str) -> None:
    assert f" {title}: --" in told


def test_choices_are_told(told: str) -> None:
    assert "--principal cn|san-uri|san-dns" in told
    assert "--transport auto|grpcio|native" in told


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("max_txn_ops", "128"),
        ("watch_progress_notify_interval", "10m"),
        ("warning_unary_request_duration", "300ms"),
        ("listen_client_urls", "https://127.0.0.1:2379"),
        ("tenants", "any, each made at its first use"),
        ("cert_file", ""),
    ],
)
def test_defaults_are_told_as_they_are_written(name: str, default: str) -> None:
    assert declared()[name].told_default == default


@pytest.mark.parametrize("name", [name for name, setting in declared().items() if setting.by_default is None])
def test_a_default_that_is_written_is_read_as_itself(name: str) -> None:
    setting = declared()[name]
    if setting.told_default:
        assert setting.parse(setting.told_default, name) == setting.default


def test_the_order_of_precedence_is_told(told: str) -> None:
    assert "A flag wins over its variable, a variable over the file, the file over the default." in told
