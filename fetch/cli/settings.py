"""The flags of the commands that read settings, each by the name of its setting."""

import argparse
import os
from pathlib import Path

from fetch import config


def add_flags(command: argparse.ArgumentParser) -> None:
    """Adds a flag for each setting, and `--config`. A flag that is not given is no attribute of the options."""
    command.add_argument("--config", type=Path, help="a TOML file of settings")
    for name, setting in config.declared().items():
        command.add_argument("--" + name.replace("_", "-"), dest=name, metavar="VALUE", help=setting.description)


def settings_of(options: argparse.Namespace) -> config.Settings:
    """The settings of a command line, of the environment and of the file.

    :raises SettingsError:
    """
    given = {name: getattr(options, name) for name in config.declared() if hasattr(options, name)}
    return config.load(given, os.environ, getattr(options, "config", None))
