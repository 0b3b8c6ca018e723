"""Where settings come from: flags, the environment and a TOML file, in this order of precedence."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fetch.config.setting import Setting, SettingsError, flag_of, variable_of
from fetch.config.settings import Settings, declared


def load(flags: Mapping[str, str], environment: Mapping[str, str], file: Path | None) -> Settings:
    """Settings from their sources. `flags` by field name.

    :raises SettingsError: the first that is wrong
    """
    values: dict[str, Any] = {}
    known = declared()
    tables: Mapping[str, Mapping[str, object]] = {}
    if file is not None:
        given, tables = _read(file)
        by_flag = {flag_of(name): name for name in known}
        for key, value in given.items():
            name = by_flag.get(f"--{key}")
            if name is None:
                raise SettingsError(f"{file}: there is no setting {key!r}")
            source = f"{file}: {key}"
            values[name] = _parse(known[name], _as_text(value, source), source)
    for name, setting in known.items():
        variable = variable_of(name)
        if variable in environment:
            values[name] = _parse(setting, environment[variable], variable)
        if name in flags:
            values[name] = _parse(setting, flags[name], flag_of(name))
    if values.get("fdb_cluster_file") and values.get("data_dir"):
        raise SettingsError("--fdb-cluster-file and --data-dir exclude each other")
    return Settings(**values, interceptor_settings=tables)


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


def _parse(setting: Setting, text: str, source: str) -> Any:
    try:
        return setting.parse(text)
    except SettingsError as error:
        raise SettingsError(f"{source}: {error}") from error
