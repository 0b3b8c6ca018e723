"""The chart, as far as it can be looked at without a cluster."""

import re
import subprocess
from pathlib import Path

import pytest

from fetch import config
from fetch.tls import certificates
from tests.deploy.chart import CHART, EVERYTHING, LEAST, VALUES, helm, render
from tests.deploy.files import DEPLOY

MANIFESTS = DEPLOY / "kubernetes" / "fetch.yaml"


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_helm_finds_nothing_wrong_with_it(values: tuple[str, ...]) -> None:
    sets = [argument for value in values for argument in ("--set", value)]
    command = [helm(), "lint", "--strict", str(CHART), *sets]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("missing", LEAST)
def test_what_has_to_be_set_is_asked_for(missing: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(tuple(value for value in LEAST if value != missing))
    assert missing.partition("=")[0] in refused.value.stderr


def test_the_manifests_are_those_of_the_chart() -> None:
    assert MANIFESTS.read_text().partition("---\n")[2] == render(LEAST).partition("---\n")[2], (
        f"helm template fetch deploy/chart --namespace etcd, with {' and '.join(LEAST)}, makes them"
    )


@pytest.mark.parametrize("values", [LEAST, EVERYTHING], ids=["least", "everything"])
def test_fetch_takes_the_configuration(values: tuple[str, ...], tmp_path: Path) -> None:
    authority = certificates.authority("tests")
    authority.write(tmp_path, "ca")
    certificates.issue(authority, "tls", server=True, names=certificates.loopback_names()).write(tmp_path, "tls")
    peers = tmp_path / "peers"
    peers.mkdir()
    for_peers = certificates.authority("peers")
    for_peers.write(peers, "ca")
    certificates.issue(for_peers, "fetch-peer", peer=True, names=certificates.loopback_names()).write(peers, "tls")
    text = re.search(r"^  fetch\.toml: \|\n((?:    .*\n| *\n)+)", render(values), re.MULTILINE)
    assert text is not None
    file = tmp_path / "fetch.toml"
    here = text[1].replace("/etc/fetch/certificates", str(tmp_path)).replace("/etc/fetch/peers", str(peers))
    lines = here.splitlines()
    file.write_text("\n".join(line.removeprefix("    ") for line in lines))
    environment = {"FETCH_INITIAL_ADVERTISE_PEER_URLS": "https://fetch-0.fetch-peers.etcd.svc:2380"}
    assert next(iter(environment)) in render(values)
    settings = config.load({}, environment, file)
    assert settings.fdb_cluster_file == "/var/lib/fetch/fdb.cluster"
    assert (settings.tenants == ("alpha", "beta")) == (values is EVERYTHING)


def test_the_alerts_are_those_beside_the_dashboard() -> None:
    assert (CHART / "alerts.yaml").resolve() == DEPLOY.parent / "dashboards" / "alerts.yaml"


def test_the_image_runs_what_the_pods_do() -> None:
    containerfile = (DEPLOY / "container" / "Containerfile").read_text()
    assert "USER 65532:65532" in containerfile
    assert "runAsUser: 65532" in render(LEAST)


def test_the_image_is_made_of_what_there_is() -> None:
    copied = re.findall(
        r"^COPY (?!--from)(.*) \S+$", (DEPLOY / "container" / "Containerfile").read_text(), re.MULTILINE
    )
    named = [name for line in copied for name in line.split()]
    assert [name for name in named if not (DEPLOY.parent / name).exists()] == []
    ignored = (DEPLOY / "container" / "Containerfile.dockerignore").read_text().splitlines()
    assert [name for name in named if f"!{name}" not in ignored] == []
