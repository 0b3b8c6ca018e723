"""What a daemon that has started tells its operator to try."""

from pathlib import Path

from fetch.config.settings import Settings


def connection_hint(settings: Settings) -> str:
    """How etcdctl and kube-apiserver connect to what these settings serve, to be copied."""
    url = settings.advertise_client_urls[0]
    if settings.trusted_ca_file is None or url.startswith("http://"):
        return f"  etcdctl --endpoints {url} endpoint status\n  kube-apiserver --etcd-servers {url} …"
    authority = Path(settings.trusted_ca_file)
    tenant = authority.parent / "alpha"
    certificate, key = (
        (f"{tenant}.crt", f"{tenant}.key") if Path(f"{tenant}.crt").exists() else ("TENANT.crt", "TENANT.key")
    )
    return (
        f"  etcdctl --endpoints {url} --cacert {authority} --cert {certificate} --key {key} endpoint status\n"
        f"  kube-apiserver --etcd-servers {url} --etcd-cafile {authority} --etcd-certfile {certificate}"
        f" --etcd-keyfile {key} …"
    )
