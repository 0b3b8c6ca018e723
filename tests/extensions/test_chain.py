"""The order of the chains is checked when they are made, and can be printed."""

from pathlib import Path

import pytest

from fetch import __version__, chain, cli
from fetch.config import Settings
from fetch.engine.memory.engine import MemoryTenants

HTTP = {"listen_client_urls": ("http://127.0.0.1:2379",), "anonymous_tenant": "alpha"}


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (
            ("classification", "metrics"),
            (
                "interceptor 'metrics' needs 'authorization' before it in the chain, where it is not in it at all: "
                "the chain is classification, metrics"
            ),
        ),
        (
            ("classification", "metrics", "authorization"),
            (
                "interceptor 'metrics' needs 'authorization' before it in the chain, where it is behind it: "
                "the chain is classification, metrics, authorization"
            ),
        ),
    ],
)
def test_metrics_by_tenant_need_authorization_before_them(names: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(chain.ChainError) as error:
        chain.load(chain.REQUEST_GROUP, names, Settings(**HTTP, interceptors=names))
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("name", "table", "sentence"),
    [
        ("rate_limit", {"rates": 1}, "there is no setting 'rates' (known: rate, burst, tenants): did you mean 'rate'?"),
        ("rate_limit", {"rate": 0}, "rate must be a number greater than 0, not 0"),
        ("rate_limit", {"tenants": {"a": -1}}, "tenants must be a number greater than 0, not {'a': -1}"),
        ("concurrency", {"calls": 1.5}, "calls must be a whole number greater than 0, not 1.5"),
        ("read_only", {"tenants": "alpha"}, "tenants must be a list of texts, not 'alpha'"),
        ("deadline", {"seconds": "1s"}, "seconds must be a number greater than 0, not '1s'"),
    ],
)
def test_a_wrong_setting_of_an_interceptor_is_an_error(name: str, table: dict[str, object], sentence: str) -> None:
    names = ("authorization", "classification", name)
    settings = Settings(**HTTP, interceptors=names, interceptor_settings={name: table})
    with pytest.raises(chain.ChainError) as error:
        chain.load(chain.REQUEST_GROUP, names, settings, tenants=MemoryTenants())
    assert str(error.value) == f"interceptor {name!r} cannot be made: {sentence}"


def test_fetch_chain_prints_the_chains_without_any_setting(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["chain"])
    assert capsys.readouterr().out.count("interceptors.") == len(Settings(**HTTP).interceptors) + len(
        Settings(**HTTP).transaction_interceptors
    )


def test_fetch_chain_prints_origin_order_and_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fetch.toml"
    file.write_text('interceptors = ["authorization", "rate_limit"]\n[interceptor.rate_limit]\nrate = 50\n')
    cli.main(["chain", "--config", str(file)])
    printed = capsys.readouterr().out
    assert printed.startswith("request chain (fetch.interceptors)\n  authorization")
    assert f"(fetch-etcd {__version__})  always\n" in printed
    assert f"interceptors.rate_limit:RateLimit (fetch-etcd {__version__})  after authorization  rate=50\n" in printed
    assert "operation chain (fetch.transaction_interceptors)\n  errors" in printed


def test_fetch_chain_prints_what_else_there_is_and_how_to_add_it(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["chain", "--interceptors=+rate_limit:after=classification,-slow_requests"])
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[1:7]] == [
        "authorization",
        "classification",
        "rate_limit",
        "tracing",
        "metrics",
        "memory",
    ]
    assert printed[7] == "  not in it: access_log, concurrency, deadline, read_only, slow_requests"
    assert printed[-1] == "+NAME adds, +NAME:before=OTHER and +NAME:after=OTHER at that place, -NAME leaves out"


def test_fetch_chain_says_that_a_chain_without_authorization_serves_no_https(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli.main(["chain", "--interceptors=classification"])
    assert "without authorization no https:// listener is served\n" in capsys.readouterr().out
