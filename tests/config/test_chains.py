"""How a setting writes a chain."""

import pytest

from fetch import config
from fetch.config import Settings, SettingsError
from fetch.config.chains import OPERATION_CHAIN, REQUEST_CHAIN

NO_ENVIRONMENT: dict[str, str] = {}
HTTP = {"listen_client_urls": "http://127.0.0.1:2379", "anonymous_tenant": "guest"}


def request_chain(setting: str) -> str:
    return ",".join(config.load({**HTTP, "interceptors": setting}, NO_ENVIRONMENT, None).interceptors)


def operation_chain(setting: str) -> str:
    given = {**HTTP, "transaction_interceptors": setting}
    return ",".join(config.load(given, NO_ENVIRONMENT, None).transaction_interceptors)


def refusal(flags: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as refused:
        config.load({**HTTP, **flags}, NO_ENVIRONMENT, None)
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


def test_plain_names_are_the_whole_chain() -> None:
    assert request_chain("authorization,mine,metrics") == "authorization,mine,metrics"


@pytest.mark.parametrize(
    ("setting", "chain"),
    [
        ("+mine", "authorization,classification,tracing,metrics,slow_requests,memory,mine"),
        ("+mine,+other", "authorization,classification,tracing,metrics,slow_requests,memory,mine,other"),
        ("+mine:before=metrics", "authorization,classification,tracing,mine,metrics,slow_requests,memory"),
        ("+mine:after=authorization", "authorization,mine,classification,tracing,metrics,slow_requests,memory"),
        ("+mine:before=authorization", "mine,authorization,classification,tracing,metrics,slow_requests,memory"),
        ("+mine,+other:before=mine", "authorization,classification,tracing,metrics,slow_requests,memory,other,mine"),
        ("+a.b:C", "authorization,classification,tracing,metrics,slow_requests,memory,a.b:C"),
        ("+a:C:before=metrics", "authorization,classification,tracing,a:C,metrics,slow_requests,memory"),
        ("+a:C,+mine:after=a:C", "authorization,classification,tracing,metrics,slow_requests,memory,a:C,mine"),
        ("-slow_requests", "authorization,classification,tracing,metrics,memory"),
        ("-tracing, +mine:after=classification", "authorization,classification,mine,metrics,slow_requests,memory"),
        ("-metrics,+metrics", "authorization,classification,tracing,slow_requests,memory,metrics"),
    ],
)
def test_changes_are_made_to_the_chain_that_comes_with_fetch_one_after_the_other(setting: str, chain: str) -> None:
    assert request_chain(setting) == chain


@pytest.mark.parametrize(
    ("setting", "chain"),
    [
        ("+mine", "errors,timing,previous,mine,usage,quota,events"),
        ("+mine,+other", "errors,timing,previous,mine,other,usage,quota,events"),
        ("+mine:before=errors", "mine,errors,timing,previous,usage,quota,events"),
        ("+mine:after=events", "errors,timing,previous,usage,quota,events,mine"),
        ("-timing,-errors", "previous,usage,quota,events"),
    ],
)
def test_a_link_of_ones_own_stands_where_it_sees_what_a_mutation_supersedes(setting: str, chain: str) -> None:
    assert operation_chain(setting) == chain


@pytest.mark.parametrize(
    ("setting", "chain"),
    [
        ("", "previous,usage,quota,events"),
        ("errors,mine", "errors,mine,previous,usage,quota,events"),
        ("previous,mine", "previous,mine,usage,quota,events"),
        ("errors,previous,usage,mine,quota,events", "errors,previous,usage,mine,quota,events"),
    ],
)
def test_what_correctness_rests_on_is_there_without_being_named(setting: str, chain: str) -> None:
    assert operation_chain(setting) == chain


@pytest.mark.parametrize("name", ["previous", "usage", "quota", "events"])
def test_what_correctness_rests_on_cannot_be_left_out(name: str) -> None:
    assert refusal({"transaction_interceptors": f"-{name}"}) == (
        f"--transaction-interceptors: '-{name}': {name!r} cannot be left out"
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("+mine,metrics", "names of the whole chain and changes to it do not go together: 'metrics' is one, '+mine' "),
        ("-authorization", "'-authorization': 'authorization' cannot be left out"),
        ("-bogus", "'-bogus': the chain has no 'bogus': authorization, classification"),
        ("-metrics,-metrics", "'-metrics': the chain has no 'metrics'"),
        ("+metrics", "'+metrics': the chain has 'metrics' already"),
        ("+mine,+mine", "'+mine': the chain has 'mine' already"),
        ("+mine:before=bogus", "'+mine:before=bogus': the chain has no 'bogus'"),
        ("+mine:before=mine", "'+mine:before=mine': the chain has no 'mine'"),
        ("-metrics,+mine:after=metrics", "'+mine:after=metrics': the chain has no 'metrics'"),
        ("+mine:behind=metrics", "is none of +NAME, +NAME:before=OTHER and +NAME:after=OTHER"),
        ("+mine:before=", "is none of"),
        ("+mine:", "is none of"),
        ("+", "is none of"),
        ("+:before=metrics", "is none of"),
        ("-", "the chain has no ''"),
    ],
)
def test_a_wrong_change_is_one_sentence(setting: str, said: str) -> None:
    sentence = refusal({"interceptors": setting})
    assert sentence.startswith("--interceptors: ")
    assert said in sentence


@pytest.mark.parametrize("setting", ["classification,metrics", ""])
def test_no_https_listener_without_authorization(tls: dict[str, str], setting: str) -> None:
    with pytest.raises(SettingsError, match="--interceptors leaves out authorization"):
        config.load({**tls, "interceptors": setting}, NO_ENVIRONMENT, None)


def test_settings_made_in_code_are_resolved_too() -> None:
    settings = Settings(
        listen_client_urls=("http://127.0.0.1:2379",), anonymous_tenant="guest", transaction_interceptors=("errors",)
    )
    assert settings.transaction_interceptors == ("errors", *OPERATION_CHAIN.engine)


def test_the_chains_that_come_with_fetch_have_what_is_always_there() -> None:
    for chain in (REQUEST_CHAIN, OPERATION_CHAIN):
        assert set(chain.engine) <= set(chain.always) <= set(chain.names)
