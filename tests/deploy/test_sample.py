"""The sample configuration is one that fetch starts with, and what it leaves out is the default."""

import re
from pathlib import Path

import pytest

from fetch import config
from fetch.config import Settings, declared
from fetch.config.setting import key_of
from fetch.tls import certificates
from tests.deploy.files import DEPLOY

SAMPLE = (DEPLOY / "fetch.toml").read_text()
_LEFT_OUT = re.compile(r"^# (?P<line>(?P<key>[a-z-]+) = .*)$", re.MULTILINE)
_PLACEHOLDER = re.compile(r'^# [a-z-]+ = "[A-Z]+(?:,…)?"')


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What is /etc/fetch elsewhere, with certificates."""
    authority = certificates.authority("tests")
    authority.write(tmp_path, "ca")
    certificates.issue(authority, "server", server=True, names=certificates.loopback_names()).write(tmp_path, "server")
    return tmp_path


def load(text: str, directory: Path) -> Settings:
    file = directory / "fetch.toml"
    file.write_text(text.replace("/etc/fetch", str(directory)))
    return config.load({}, {}, file)


def test_it_is_loaded(directory: Path) -> None:
    assert load(SAMPLE, directory).cert_file == str(directory / "server.crt")


def test_every_setting_is_in_it() -> None:
    named = set(re.findall(r"^(?:# )?([a-z-]+) = ", SAMPLE, re.MULTILINE)) - {"rate"}
    assert named == {key_of(name) for name in declared()}


def test_what_is_commented_out_is_as_it_stands_there_anyway(directory: Path) -> None:
    body = SAMPLE.partition("# What interceptors are told")[0]
    lines = [line if _PLACEHOLDER.match(line) else _LEFT_OUT.sub(r"\g<line>", line) for line in body.splitlines()]
    assert load("\n".join(lines), directory) == load(body, directory)


def test_the_example_of_an_interceptor_is_loaded(directory: Path) -> None:
    example = re.sub(r"^# (interceptors = \[\"\+rate_limit\"\]|\[.*\]|rate = .*)$", r"\1", SAMPLE, flags=re.MULTILINE)
    assert "\n[interceptor.rate_limit]\nrate = 500\n" in example
    # in the file it would stand before the first table
    chain, _, table = example.partition("\ninterceptors = [")[2].partition("\n")
    settings = load(f"{SAMPLE}\ninterceptors = [{chain}\n{table}", directory)
    assert settings.interceptor_settings["rate_limit"] == {"rate": 500}
