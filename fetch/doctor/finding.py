"""What is found, in a line each: what was looked at, how it is, and what to do about it."""

from dataclasses import dataclass

OK, NOTE, WRONG = "ok", "note", "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `state` is `OK`, `NOTE`: nothing that keeps from serving, or `WRONG`."""

    about: str
    state: str
    told: str
    to_do: str = ""

    def __str__(self) -> str:
        """The line. What comes of others, such as an error of the store, does not break it."""
        told = f"{self.told}; {self.to_do}" if self.to_do else self.told
        return f"{self.state:5} {self.about:13} {' '.join(told.split())}"
