"""`--auto-compaction-retention` means what it means to etcd (`server/embed/etcd.go`, `parseCompactionRetention`)."""

import pytest

from fetch import config
from fetch.config import Settings, SettingsError

HTTP = {"listen_client_urls": ("http://127.0.0.1:1",), "anonymous_tenant": "guest"}


def retained(mode: str, retention: str) -> tuple[float, int]:
    """The seconds and the revisions that are kept."""
    return Settings(**HTTP, auto_compaction_mode=mode, auto_compaction_retention=retention).retained()


def test_nothing_is_compacted_unless_it_is_asked_for() -> None:
    assert Settings(**HTTP).retained() == (0.0, 0)


@pytest.mark.parametrize(
    ("retention", "seconds"),
    [("1", 3600.0), ("24", 86400.0), ("10m", 600.0), ("1h30m", 5400.0), ("0", 0.0), ("0s", 0.0)],
)
def test_a_number_is_of_hours_and_a_duration_is_itself(retention: str, seconds: float) -> None:
    assert retained("periodic", retention) == (seconds, 0)


def test_in_the_other_mode_a_number_is_of_revisions() -> None:
    assert retained("revision", "1000") == (0.0, 1000)


@pytest.mark.parametrize(
    ("mode", "retention"), [("revision", "10m"), ("periodic", "ten"), ("periodic", "-1"), ("periodic", "100ms")]
)
def test_what_is_neither_is_refused(mode: str, retention: str) -> None:
    """etcd takes `10m` for 600,000,000,000 revisions."""
    with pytest.raises(SettingsError, match="--auto-compaction-retention"):
        retained(mode, retention)


def test_there_are_no_other_modes() -> None:
    with pytest.raises(SettingsError, match="none of periodic, revision"):
        config.load({"auto_compaction_mode": "never"}, {}, None)
