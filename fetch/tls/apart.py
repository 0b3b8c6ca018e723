"""Keeps the authorities of daemons apart from those of tenants, whichever of the two sets of files changes."""

from fetch.config import Settings, SettingsError
from fetch.tls.material import Material
from fetch.tls.rotation import Rotation, Take


def keep_apart(settings: Settings, of_clients: Rotation, of_peers: Rotation) -> None:
    """Refuses what would let a tenant's certificate pass for a daemon's, whichever of the two changes."""
    if not (of_clients.serves and of_peers.serves):
        return

    def check(peers: Material, clients: Material) -> Take:
        try:
            settings.check_authorities(peers.authorities, clients.authorities)
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return lambda: None

    of_clients.serve_with(lambda material: check(of_peers.material, material))
    of_peers.serve_with(lambda material: check(material, of_clients.material))
