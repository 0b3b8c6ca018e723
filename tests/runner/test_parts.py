"""`python -m tests` runs every part, ends, and says what came of them."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

import tests.__main__ as runner
from tests.__main__ import Part

Run = Callable[..., tuple[int, list[str]]]

GOOD = Part("good", ("-c", "pass"))
BAD = Part("bad", ("-c", "import sys; sys.exit('this is why')"))
HANGING = Part("hanging", ("-c", "import threading; threading.Event().wait()"))


@pytest.fixture(autouse=True)
def _keeps_no_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs of parts that failed on purpose go with the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs parts; the exit code, and the lines that were printed."""

    def run_parts(*parts: Part, options: tuple[str, ...] = ()) -> tuple[int, list[str]]:
        monkeypatch.setattr(runner, "PARTS", parts)
        monkeypatch.setattr("sys.argv", ["tests", *options])
        code = runner.main()
        return code, capsys.readouterr().out.splitlines()

    return run_parts


@pytest.fixture
def tests_of_every_outcome(tmp_path: Path) -> Part:
    """A part with tests that pass, fail, are skipped, and fail behind their end."""
    file = tmp_path / "test_outcomes.py"
    file.write_text(
        "import pytest\n"
        "@pytest.fixture\n"
        "def broken():\n    yield\n    raise ValueError('behind the end')\n"
        "def test_good(): pass\n"
        "def test_bad(): assert False, 'no good'\n"
        "def test_broken(broken): pass\n"
        "@pytest.mark.skip(reason='not here')\n"
        "def test_left_out(): pass\n"
    )
    return Part(
        "outcomes", ("-m", "pytest", "-p", "tests.outcomes", "-p", "no:cacheprovider", "-c", "/dev/null", str(file))
    )


def test_a_part_that_fails_keeps_no_other_from_running(run: Run) -> None:
    code, lines = run(BAD, GOOD)
    assert code == 1
    assert lines[-5:-3] == ["ran: bad, good; 0.0 minutes; no tests", "failed: bad: exit code 1"]
    assert lines[-1] == "1 passed, 1 failed, 0 skipped"


def test_where_everything_passes_the_exit_code_says_so(run: Run) -> None:
    code, lines = run(GOOD)
    assert (code, lines[-1]) == (0, "1 passed, 0 failed, 0 skipped")


def test_what_a_part_that_failed_has_said_is_shown(run: Run) -> None:
    assert "this is why" in run(BAD)[1]


def test_what_a_part_that_passed_has_said_is_not_shown(run: Run) -> None:
    assert "noise" not in run(Part("good", ("-c", "print('noise')")))[1]


def test_of_what_a_failure_says_the_end_is_shown(run: Run) -> None:
    _, lines = run(Part("bad", ("-c", "import sys; print('x\\n' * 10_000); sys.exit('the end')")))
    assert "the end" in lines
    assert len(lines) < 200


def test_a_part_in_which_nothing_happens_is_ended(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SILENT_MINUTES", 0)
    code, lines = run(HANGING, GOOD)
    assert code == 1
    assert "failed: hanging: ended: nothing happened for 0 minutes" in lines
    assert lines[-1] == "1 passed, 1 failed, 0 skipped"


def test_what_the_time_is_over_for_has_failed(run: Run) -> None:
    code, lines = run(GOOD, options=("--minutes", "0"))
    assert code == 1
    assert "failed: good: not run: the time was over" in lines


def test_what_needs_the_native_transport_is_skipped_without_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    code, lines = run(GOOD, Part("native", ("-c", "pass"), native=True))
    assert (code, lines[-1]) == (0, "1 passed, 0 failed, 1 skipped")
    assert "the native transport is not there" in lines[-3]


def test_single_tests_are_counted_each_by_what_became_of_it(run: Run, tests_of_every_outcome: Part) -> None:
    code, lines = run(tests_of_every_outcome)
    assert (code, lines[-1]) == (1, "1 passed, 2 failed, 1 skipped")
    assert "test_bad (AssertionError: no good" in lines[-4]
    assert "test_broken (ValueError: behind the end" in lines[-4]
    assert lines[-3] == "skipped: 1 since not here"


def test_there_is_one_closing_line(run: Run, tests_of_every_outcome: Part) -> None:
    _, lines = run(tests_of_every_outcome)
    assert [line for line in lines if " passed" in line] == lines[-1:]
