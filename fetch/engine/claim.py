"""What a writer asks of whoever knows which daemon writes for a tenant."""

from typing import Protocol


class Claim(Protocol):
    """Which daemon writes for a tenant, where there are several that could: a row that each batch reads and may write.

    Nothing relies on it but where writes are sent to. It costs no round trip: it is read with a batch's other rows.
    """

    def renewed(self, stored: bytes | None) -> bytes | None:
        """What the row becomes with a batch that found it so; None: it stays. Asked again where a batch is evaluated
        again, and to have no effects."""

    def is_anothers(self, stored: bytes | None) -> bool:
        """Whether the row says that another daemon writes now, as far as this one knows."""

    def committed(self, stored: bytes | None, written: bytes | None) -> None:
        """A batch that has found it so, and written this, has been committed."""
