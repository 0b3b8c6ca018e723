"""The settings of the commands that read some."""

import argparse
import os

from fetch import config
from fetch.config import flags


def settings_of(options: argparse.Namespace) -> config.Settings:
    """The settings of a command line, of the environment and of the file.

    :raises SettingsError:
    """
    return config.load(flags.given(options), os.environ, getattr(options, "config", None))
