"""Settings: from flags, the environment and a TOML file, in this order of precedence.

A flag `--max-txn-ops` is `FETCH_MAX_TXN_OPS` in the environment and `max-txn-ops` in the file. Names are etcd's where
etcd has the setting. A table `[interceptor.NAME]` of the file holds the settings of one interceptor.
"""

from fetch.config.hint import connection_hint
from fetch.config.setting import Setting, SettingsError
from fetch.config.settings import Settings, declared
from fetch.config.sources import load

__all__ = ["Setting", "Settings", "SettingsError", "connection_hint", "declared", "load"]
