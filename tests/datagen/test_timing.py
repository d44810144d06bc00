"""What a scene costs includes the generator that it ran as a process of its own."""

import subprocess
import sys

from panoforge.datagen.timing import Timer, cpu_seconds, peak_memory_mb

BUSY = """
import time
memory = bytearray(600 << 20)
while time.process_time() < 0.5:
    sum(range(1000))
"""


def test_core_seconds_and_memory_of_a_generator_count():
    timer, before = Timer(), cpu_seconds()
    with timer.measure("generate"):
        subprocess.run([sys.executable, "-c", BUSY], check=True)
    assert timer.cpu["generate"] >= 0.45 and cpu_seconds() - before >= 0.45
    assert peak_memory_mb() >= 600
