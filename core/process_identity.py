"""Which process on which machine: marks that a reused number or name does not forge."""

import os
import platform
from pathlib import Path


def start_ticks(pid: int) -> int | None:
    """When a process began, in ticks since boot, which no clock setting changes.

    None if there is no such process.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def machine() -> str:
    """This boot of this machine, in this container."""
    parts = [platform.node()]
    boot = Path("/proc/sys/kernel/random/boot_id")
    parts.append(boot.read_text().strip() if boot.exists() else "")
    namespace = Path("/proc/self/ns/pid")
    parts.append(os.readlink(namespace) if namespace.exists() else "")
    return "/".join(parts)
