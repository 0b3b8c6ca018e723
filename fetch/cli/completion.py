"""`fetch completion SHELL`: prints what makes a shell complete fetch's commands and flags, made from their parsers.

source <(fetch completion bash)        # in ~/.bashrc; zsh is alike
fetch completion fish > ~/.config/fish/completions/fetch.fish
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_CHOICES = re.compile(r"[a-z0-9-]+(?:\|[a-z0-9-]+)+")
_FILES, _DIRECTORIES = ("FILE",), ("DIRECTORY", "DIR")


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag, what is written behind it (empty for nothing), and what it is for."""

    name: str
    form: str
    help: str

    @property
    def choices(self) -> list[str]:
        """What may be written behind it, if that can be listed."""
        return self.form.split("|") if _CHOICES.fullmatch(self.form) else []


@dataclass(frozen=True, slots=True)
class Command:
    """A command by its words, empty for fetch itself: its flags, and the commands below it with what they are for."""

    words: tuple[str, ...]
    flags: list[Flag] = field(default_factory=list)
    below: Mapping[str, str] = field(default_factory=dict)


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    command = commands.add_parser("completion", help="print what makes a shell complete commands and flags")
    command.add_argument("shell", choices=list(_SCRIPTS), metavar="|".join(_SCRIPTS), help="which shell")
    command.set_defaults(run=_run, flags=())


def _run(options: argparse.Namespace) -> None:
    from fetch.cli import parser  # noqa: PLC0415  what names this command

    sys.stdout.write(_SCRIPTS[options.shell](list(commands_of(parser()))))


def commands_of(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[Command]:
    """The parser's command and all below it."""
    flags: list[Flag] = []
    below: dict[str, str] = {}
    parsers: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:  # noqa: SLF001  argparse has no other way to tell
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            helps = {it.dest: it.help or "" for it in action._choices_actions}  # noqa: SLF001
            parsers |= action.choices
            below |= {name: helps.get(name, "") for name in action.choices}
        elif action.option_strings and action.help != argparse.SUPPRESS:
            form = "" if action.nargs == 0 else _form(action)
            flags.append(Flag(action.option_strings[-1], form, (action.help or "").partition(" (default")[0]))
    yield Command(words, flags, below)
    for name, it in parsers.items():
        yield from commands_of(it, (*words, name))


def _form(action: argparse.Action) -> str:
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return str(action.metavar or action.dest.upper())


def _bash(commands: list[Command]) -> str:
    paths = "|".join(f'" {" ".join(command.words)}"' for command in commands if command.words)
    values, words = [], []
    for command in commands:
        path = "".join(f" {word}" for word in command.words)
        for flag in command.flags:
            if flag.choices:
                values.append(
                    f'    "{path} {flag.name}") COMPREPLY=($(compgen -W "{" ".join(flag.choices)}" -- "$word"));;'
                )
            elif flag.form:
                how = "-d" if flag.form in _DIRECTORIES else "-f" if flag.form in _FILES else "-W ''"
                values.append(f'    "{path} {flag.name}") COMPREPLY=($(compgen {how} -- "$word"));;')
        offered = " ".join([*command.below, *(flag.name for flag in command.flags)])
        words.append(f'    "{path}") COMPREPLY=($(compgen -W "{offered}" -- "$word"));;')
    return _BASH.format(paths=paths, values="\n".join(values), words="\n".join(words))


_BASH = """# made by `fetch completion`
_fetch() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" path="" index
  for ((index = 1; index < COMP_CWORD; index++)); do
    case "$path ${{COMP_WORDS[index]}}" in
      {paths}) path="$path ${{COMP_WORDS[index]}}";;
    esac
  done
  COMPREPLY=()
  case "$path $before" in
{values}
    *) case "$path" in
{words}
    esac;;
  esac
}}
complete -o bashdefault -F _fetch fetch
"""


def _zsh(commands: list[Command]) -> str:
    return f"autoload -U +X bashcompinit && bashcompinit\n{_bash(commands)}"


def _fish(commands: list[Command]) -> str:
    lines = ["# made by `fetch completion`", "complete -c fetch -f"]
    for command in commands:
        here = " and ".join(f"__fish_seen_subcommand_from {word}" for word in command.words)
        if command.below:
            names = " ".join(command.below)
            there = " and ".join(filter(None, [here, f"not __fish_seen_subcommand_from {names}"]))
            lines += [
                f"complete -c fetch -n {_quoted(there)} -a {name} -d {_quoted(told)}"
                for name, told in command.below.items()
            ]
        for flag in command.flags:
            condition = f" -n {_quoted(here)}" if here else ""
            value = f" -x -a {_quoted(' '.join(flag.choices))}" if flag.choices else " -r" if flag.form else ""
            value = " -r -F" if flag.form in (*_FILES, *_DIRECTORIES) else value
            name = f"-l {flag.name[2:]}" if flag.name.startswith("--") else f"-s {flag.name[1:]}"
            lines.append(f"complete -c fetch{condition} {name}{value} -d {_quoted(flag.help)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A text as fish reads it."""
    text = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


_SCRIPTS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
