"""How far a command has got: a bar on a terminal, and a line now and then elsewhere."""

import os
import sys
import time
from typing import TextIO

_BAR = 30
_SECONDS_BETWEEN = {True: 0.1, False: 10.0}


class ProgressBar:
    """Progress in stages, each of so many things; it writes to stderr."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._terminal = self._out.isatty()
        self._stage = ""
        self._began = self._told = 0.0
        self._open = False

    def tell(self, stage: str, done: int, total: int, things: str = "changes") -> None:
        """Tells how much of a stage is done, and of what; a total of 0 is one that nobody knows yet."""
        now = time.monotonic()
        if stage != self._stage:
            self.close()
            self._stage, self._began, self._told = stage, now, 0.0
        elif now - self._told < _SECONDS_BETWEEN[self._terminal] and done != total:
            return
        self._told = now
        rate = done / (now - self._began) if now > self._began and done else 0.0
        told = f"{done:,} {things}" if not total else f"{done:,} of {total:,} {things}"
        if rate:
            told += f", {rate:,.0f}/s"
            if total > done:
                told += f", {(total - done) / rate:,.0f} s left"
        if not self._terminal:
            self._out.write(f"{stage}: {told}\n")
        else:
            filled = _BAR * done // total if total else 0
            bar = f"[{'#' * filled}{' ' * (_BAR - filled)}] " if total else ""
            columns = os.get_terminal_size(self._out.fileno()).columns or 80
            self._out.write(f"\r{f'{stage:<10} {bar}{told}':<{columns - 1}.{columns - 1}}")
            self._open = True
        self._out.flush()

    def close(self) -> None:
        """Ends the line that is being written."""
        if self._open:
            self._out.write("\n")
            self._out.flush()
            self._open = False
