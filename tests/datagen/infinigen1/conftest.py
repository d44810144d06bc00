"""The real Infinigen 1, for the tests that need it."""

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from panoforge.datagen.infinigen1.overlay import Infinigen1, default_folder, fault_of, overlay


@pytest.fixture(scope="session")
def infinigen1() -> Infinigen1:
    """The overlay in the user's cache. In CI it is installed by the command if it is missing, by
    one worker while others wait; elsewhere its tests are skipped and say so.
    """
    if (fault := fault_of(default_folder())) and not os.environ.get("CI"):
        pytest.skip(f"THE REAL INFINIGEN 1 IS NOT TESTED: {fault}")
    with open(Path(tempfile.gettempdir()) / "panoforge-infinigen1.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if fault_of(default_folder()):
            install = [sys.executable, "-m", "panoforge", "sources", "install", "infinigen1"]
            done = subprocess.run(install, capture_output=True, text=True, timeout=1200)
            assert done.returncode == 0, done.stderr[-2000:]
    return overlay()
