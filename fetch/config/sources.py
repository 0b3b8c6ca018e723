"""Where settings come from: flags, variables, a TOML file, and etcd's variables, in this order of precedence.

What nobody would read is an error: a name that there is not, the table of an interceptor that is in no chain. A setting
without an effect is one whose effect somebody misses.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fetch.config import etcd
from fetch.config.setting import PREFIX, SettingsError, flag_of, key_of, variable_of
from fetch.config.settings import Settings, declared
from fetch.suggestions import did_you_mean

_NO_SETTING = re.compile(
    PREFIX
    + r"""(?:
        WORKER  # a process's own, from the one that started it
        | TEST_\w+  # what tests are told
        # what Kubernetes sets in every pod of a namespace that has a service called fetch, or fetch-something
        | (?:\w+_)?SERVICE_(?:HOST|PORT(?:_\w+)?)
        | (?:\w+_)?PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?
    )""",
    re.VERBOSE,
)
"""Variables that are called like settings and are none."""


def load(flags: Mapping[str, str], environment: Mapping[str, str], file: Path | None) -> Settings:
    """Settings from their sources. `flags` by field name.

    :raises SettingsError: the first that is wrong
    """
    shared = etcd.shared(environment)
    of_etcd = {name: declared()[name].parse(text, variable) for name, (variable, text) in shared.items()}
    values: dict[str, Any] = dict(of_etcd)
    tables: Mapping[str, Mapping[str, object]] = {}
    if file is not None:
        given, tables = _read(file)
        values |= _of_file(given, file)
    values |= _of_environment(environment)
    values |= {name: declared()[name].parse(text, flag_of(name)) for name, text in flags.items()}
    if values.get("fdb_cluster_file") and values.get("data_dir"):
        directory = "ETCD_DATA_DIR" if values["data_dir"] == of_etcd.get("data_dir") else "--data-dir"
        raise SettingsError(f"--fdb-cluster-file and {directory} exclude each other")
    settings = Settings(**values, interceptor_settings=tables)
    in_chains = settings.interceptors + settings.transaction_interceptors
    for name in tables:
        if name not in in_chains:
            meant = did_you_mean(name, in_chains)
            raise SettingsError(f"{file}: nobody reads [interceptor.{name}]: it is in neither chain{meant}")
    return settings


def _of_file(given: Mapping[str, object], file: Path) -> dict[str, Any]:
    known = {key_of(name): name for name in declared()}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise SettingsError(f"{file}: there is no setting {key!r}{did_you_mean(key, known)}")
        source = f"{file}: {key}"
        values[known[key]] = declared()[known[key]].parse(_as_text(value, source), source)
    return values


def _of_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    known = {variable_of(name): name for name in declared()}
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if variable in known:
            values[known[variable]] = declared()[known[variable]].parse(text, variable)
        elif variable.startswith(PREFIX) and not _NO_SETTING.fullmatch(variable):
            meant = did_you_mean(variable.removeprefix(PREFIX), declared(), variable_of)
            raise SettingsError(f"{variable}: there is no such setting{meant}")
    return values


def _read(file: Path) -> tuple[Mapping[str, Any], Mapping[str, Mapping[str, object]]]:
    try:
        given = tomllib.loads(file.read_text())
    except OSError as error:
        raise SettingsError(f"--config: cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"--config: {file} is not TOML: {error}") from error
    tables = given.pop("interceptor", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise SettingsError(f"{file}: [interceptor.NAME] must be a table")
    return given, tables


def _as_text(value: object, source: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    raise SettingsError(f"{source} must be a text, a whole number or a list of texts")
