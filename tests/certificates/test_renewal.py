"""Development certificates are renewed when their end is near, and nobody who has the old ones is kept out."""

import datetime
from pathlib import Path

import pytest
from cryptography import x509

from fetch import cli
from fetch.tls import certificates
from fetch.tls.certificates import LIFETIME, Certificate
from fetch.tls.renewal import NEAR, renew
from tests.certificates.test_certificates import common_names, names, purposes, shake_hands

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC)


def short(directory: Path, name: str, *, server: bool = False) -> Certificate:
    """Writes a certificate that is near its end."""
    signer = Certificate.read(directory, "ca")
    alternative = certificates.loopback_names() if server else ()
    made = certificates.issue(signer, name, server=server, names=alternative, valid=NEAR - DAY)
    made.write(directory, "server" if server else name)
    return made


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    certificates.create(tmp_path, ["alpha", "beta"])
    return tmp_path


def test_what_is_near_its_end_is_renewed_and_nothing_else(directory: Path) -> None:
    short(directory, "alpha")
    before = {file: file.read_bytes() for file in directory.iterdir() if file.stem != "alpha"}
    (renewed,) = renew(directory)
    assert renewed.name == "alpha"
    assert renewed.until > NOW + LIFETIME - DAY
    assert {file: file.read_bytes() for file in before} == before


def test_a_renewed_certificate_has_the_same_names_and_purposes_and_another_key(directory: Path) -> None:
    old = short(directory, "localhost", server=True)
    renew(directory)
    new = Certificate.read(directory, "server")
    assert (common_names(new), purposes(new), names(new)) == (common_names(old), purposes(old), names(old))
    assert new.key_pem != old.key_pem
    assert shake_hands(directory, "alpha").getpeercert() is not None


def test_a_key_stays_its_owners_alone(directory: Path) -> None:
    short(directory, "alpha")
    renew(directory)
    assert (directory / "alpha.key").stat().st_mode & 0o777 == 0o600


def test_what_another_authority_has_signed_is_let_be(directory: Path) -> None:
    stranger = certificates.issue(certificates.authority("another"), "alpha", valid=DAY)
    stranger.write(directory, "alpha")
    assert renew(directory) == []
    assert Certificate.read(directory, "alpha").certificate == stranger.certificate


def test_an_authority_is_renewed_before_what_it_signs_could_outlive_it(directory: Path) -> None:
    old = Certificate.read(directory, "ca")
    then = old.certificate.not_valid_after_utc - LIFETIME + DAY
    assert "ca" in [renewed.name for renewed in renew(directory, then)]
    new = Certificate.read(directory, "ca")
    assert new.certificate != old.certificate
    bundle = x509.load_pem_x509_certificates((directory / "ca.crt").read_bytes())
    assert bundle == [new.certificate, old.certificate]


@pytest.mark.parametrize("renewed", ["alpha", "server"])
def test_certificates_of_the_old_authority_and_of_the_new_one_go_together(directory: Path, renewed: str) -> None:
    old = Certificate.read(directory, "ca")
    renew(directory, old.certificate.not_valid_after_utc - LIFETIME + DAY)
    certificates.issue(old, "alpha").write(directory, "alpha")
    certificates.issue(old, "localhost", server=True, names=certificates.loopback_names()).write(directory, "server")
    assert shake_hands(directory, "alpha").getpeercert() is not None
    if renewed == "alpha":
        short(directory, "alpha")
    else:
        short(directory, "localhost", server=True)
    assert [it.name for it in renew(directory)] == [renewed]
    assert shake_hands(directory, "alpha").getpeercert() is not None


def test_an_old_authority_goes_when_it_has_expired(directory: Path) -> None:
    old = Certificate.read(directory, "ca")
    renew(directory, old.certificate.not_valid_after_utc - LIFETIME + DAY)
    new = Certificate.read(directory, "ca")
    passed = certificates.authority("fetch development")
    # one that has expired, which cannot be waited for
    expired = certificates.issue(passed, "fetch development", valid=-DAY)
    (directory / "ca.crt").write_bytes(new.certificate_pem + expired.certificate_pem)
    assert renew(directory) == []
    assert x509.load_pem_x509_certificates((directory / "ca.crt").read_bytes()) == [new.certificate]


def test_where_there_is_nothing_nothing_is_renewed(tmp_path: Path) -> None:
    assert renew(tmp_path) == []


def test_the_command_says_what_it_did(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short(directory, "alpha")
    cli.main(["certs", "--dir", str(directory), "alpha", "gamma"])
    renewed, made = capsys.readouterr().out.splitlines()
    assert renewed.startswith(f"renewed {directory}/alpha.crt, which was valid until ")
    assert made == f"made {directory}/gamma.crt"
    cli.main(["certs", "--dir", str(directory), "alpha", "gamma"])
    assert capsys.readouterr().out == "all there already\n"


def test_an_administrators_certificate_comes_with_what_makes_it_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["certs", "--dir", str(tmp_path), "--admin", "root", "--admin", "ops"])
    assert capsys.readouterr().out.splitlines()[-1].endswith("--admin-principals root,ops")
    assert common_names(Certificate.read(tmp_path, "root")) == ["root"]
    assert not (tmp_path / "alpha.crt").exists()


def test_no_tenant_gets_a_name_that_every_cluster_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["certs", "--dir", str(tmp_path), "kube-apiserver-etcd-client"])
    assert ended.value.code == 2
    assert "give this one a name of its own" in capsys.readouterr().err
