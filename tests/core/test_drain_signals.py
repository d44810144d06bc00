"""The first signal asks for a drain, the second one stops, and one may arrive several times."""

import os
import signal

import pytest

from panoforge.core import drain
from panoforge.core.drain import Drain


def test_the_second_signal_stops_and_a_doubled_first_does_not(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(drain.time, "monotonic", lambda: now[0])
    before = signal.getsignal(signal.SIGTERM)
    with Drain("stopping") as asked:
        assert not asked.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.asked
        now[0] = 0.4
        os.kill(os.getpid(), signal.SIGTERM)  # Slurm's and its batch script's
        now[0] = 0.6
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
