"""Certificates: whether they can be served with, when they end, and whether they have the names clients connect to."""

import datetime
import ipaddress
import stat
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fetch.config import Settings
from fetch.doctor.finding import NOTE, OK, WRONG, Finding
from fetch.tls.material import Ending, Files, MaterialError, files_of, peer_files_of, read

_ABOUT = "certificates"
_SOON = datetime.timedelta(days=30)
_OTHERS = stat.S_IRWXO
_RENEW = "renew it; it is taken as its file changes, without a restart"


def look(settings: Settings, now: datetime.datetime) -> Iterator[Finding]:
    """Looks at certificate, key and authorities: those for clients, and those of daemons among each other."""
    for_clients, for_peers = files_of(settings), peer_files_of(settings)
    if for_clients is None:
        yield Finding(_ABOUT, NOTE, "nothing is served by https://", "whoever reaches the address is let in")
    else:
        yield from _look_at(for_clients, settings.advertise_client_urls, now)
    if for_peers is not None:
        yield from _look_at(for_peers, settings.initial_advertise_peer_urls, now)


def _look_at(files: Files, urls: Sequence[str], now: datetime.datetime) -> Iterator[Finding]:
    try:
        material = read(files, now)
    except MaterialError as error:
        yield Finding(_ABOUT, WRONG, str(error), "set the files that belong together, or have new ones made")
        return
    yield from (_ending(ending, now) for ending in material.endings)
    certificate = x509.load_pem_x509_certificate(material.certificate)
    if certificate.not_valid_before_utc > now:
        from_then = f"{files.certificate} holds only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on"
        yield Finding(_ABOUT, WRONG, from_then, "set this machine's clock, or wait")
    yield from _names(urls, files, certificate)
    yield from _usage(files, certificate)
    yield from _authorities(files, material.authorities)
    if files.key.stat().st_mode & _OTHERS:
        yield Finding(_ABOUT, WRONG, f"anybody may read {files.key}", f"chmod o= {files.key}")


def _ending(ending: Ending, now: datetime.datetime) -> Finding:
    left = ending.at - now
    what = f"the {ending.kind} {ending.subject} in {ending.file}"
    if left <= datetime.timedelta():
        return Finding(_ABOUT, WRONG, f"{what} ended {ending.at:%Y-%m-%d}", _RENEW)
    if left < _SOON:
        return Finding(_ABOUT, WRONG, f"{what} ends in {_told(left)}", _RENEW)
    return Finding(_ABOUT, OK, f"{what} holds for {_told(left)}")


def _told(left: datetime.timedelta) -> str:
    return f"{left.days} days" if left.days else f"{left.seconds // 3600} hours"


def _names(urls: Sequence[str], files: Files, certificate: x509.Certificate) -> Iterator[Finding]:
    """Whether those who connect to what is advertised find its name in the certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        yield Finding(_ABOUT, WRONG, f"{files.certificate} has no subject alternative names", "have one made with them")
        return
    hosts = {url: urlsplit(url).hostname or "" for url in urls if url.startswith("https://")}
    missing = [url for url, host in hosts.items() if not _has(names, host)]
    for url in missing:
        yield Finding(
            _ABOUT,
            WRONG,
            f"{files.certificate} does not have the name in {url}",
            "whoever is told this URL refuses it: add the name, or advertise another",
        )
    if not missing:
        yield Finding(_ABOUT, OK, f"{files.certificate} has the names that are advertised")


def _has(names: x509.SubjectAlternativeName, host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        known = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
        return host.lower() in known or f"*.{host.lower().partition('.')[2]}" in known


def _usage(files: Files, certificate: x509.Certificate) -> Iterator[Finding]:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        yield Finding(_ABOUT, WRONG, f"{files.certificate} is not for servers", "have one made for server auth")


def _authorities(files: Files, authorities: bytes) -> Iterator[Finding]:
    for authority in x509.load_pem_x509_certificates(authorities):
        try:
            is_one = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            is_one = False
        if not is_one:
            subject = authority.subject.rfc4514_string()
            told = f"{subject} in {files.authorities} is no authority"
            yield Finding(_ABOUT, WRONG, told, "leave it out: it cannot sign clients' certificates")
