"""Lines of progress: work done before says nothing about the rate, and nobody need read them."""

import errno
import io
import sys

import pytest

from panoforge.core import progress as progress_module
from panoforge.core.progress import Progress


def test_what_was_done_already_is_no_sign_of_speed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    with Progress("render", 100, already=96, every_s=1.0) as progress:
        now[0] = 240.0
        progress.advance(2)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "render: 96/100 in 0 s"
    assert last == "render: 98/100 in 240 s, about 240 s left"


class Terminal(io.StringIO):
    """A file that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_below_the_bar_of_another_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Progress("files", 1) as bar, Progress("walk.mp4", 3, plain=True) as frames:
        frames.advance(3)
        bar.advance()
    assert "walk.mp4: 3/3 in 0 s\n" in terminal.getvalue()


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_behind_stderr_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Full())
    with Progress("render", 2) as progress:
        progress.log("something happened")
        progress.advance(2)
    assert progress.done == 2
