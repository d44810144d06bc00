"""Fixtures of the command's tests."""

import pytest

from panoforge.cli import main


@pytest.fixture
def pano(capfd, monkeypatch):
    """Run a verb in this process; gives (exit code, stdout, stderr)."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        stdout, stderr = capfd.readouterr()
        assert "Traceback" not in stderr
        return int(end.value.code or 0), stdout, stderr

    return run
