"""What a command was asked for and could not do: exit code 1, where a wrong command line is 2."""


class CommandError(Exception):
    """One sentence that says what is wrong, and what to do."""
