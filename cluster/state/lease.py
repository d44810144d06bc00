"""One driver per run: a lease made of small objects, safe against dead drivers, slow ones, and
clocks that jump.

Each driver that takes the run makes the next `lease/epoch-N.json`, which only one can; while it
lives it counts up `lease/beat-N.json`, and at the end it leaves `lease/end-N.json`. Whether another
machine's driver is alive is told by watching whether its counter moves, on one's own monotonic
clock: no two clocks are ever compared, and a clock set back or forth changes only the ages in
messages. A driver on the same machine is looked up in the process table instead. A driver that was
paused for long finds the higher epoch at its next beat and stops (`LeaseLost`).
"""

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panoforge.cluster.process.process import start_ticks
from panoforge.core.errors import UserError
from panoforge.core.report.numbers import duration
from panoforge.core.storage.store import Store

BEAT_S = 5.0
PATIENCE = 4  # beats that a foreign driver may miss


class RunIsTaken(UserError):
    """Another driver works on this run."""


class LeaseLost(UserError):
    """Another driver took this run over because this one gave no sign of life."""


@dataclass(frozen=True)
class Holder:
    """Who holds, or held, a run. `machine` tells boots and containers apart, `start_ticks` a
    process from its successor.
    """

    epoch: int
    host: str
    pid: int
    machine: str
    start_ticks: int | None
    started_unix_s: float

    @classmethod
    def me(cls, epoch: int) -> "Holder":
        return cls(
            epoch, platform.node(), os.getpid(), _machine(), start_ticks(os.getpid()), time.time()
        )

    def is_dead_here(self) -> bool:
        """True if it ran on this very machine and is gone; False also where that cannot be
        known."""
        return self.machine == _machine() and (
            self.start_ticks is None or start_ticks(self.pid) != self.start_ticks
        )

    def is_alive_here(self) -> bool:
        return self.machine == _machine() and not self.is_dead_here()


class Lease:
    """A lease on the run whose ledger is in `store`. Use as a context manager; `check()` now and
    then.
    """

    def __init__(
        self,
        store: Store,
        run: str,
        *,
        beat_s: float = BEAT_S,
        payload: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._store, self._run, self._beat_s, self.payload = store, run, beat_s, payload
        self._count = 0
        self._stop = threading.Event()
        self._lost: Holder | None = None
        self._thread = threading.Thread(target=self._beat_loop, name="lease", daemon=True)
        self.epoch = 0

    def __enter__(self) -> "Lease":
        self._acquire()
        self._beat()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if not self._lost:
            self._beat()
            with contextlib.suppress(
                UserError
            ):  # a full disk: the next driver finds out that this one is dead
                self._store.put(_name("end", self.epoch), b"{}\n")

    def check(self) -> None:
        """LeaseLost if another driver has taken over."""
        if self._lost:
            raise LeaseLost(
                f"{self._run} was taken over by the driver on {_who(self._lost)}, because this one"
                " gave no sign of life for a while (a paused machine?). Nothing is lost: whatever"
                " this one finished counts"
            )

    def _acquire(self) -> None:
        latest = latest_epoch(self._store)
        if latest and self._store.get(_name("end", latest)) is None:
            holder = read_holder(self._store, latest)
            if holder is not None and holder.is_alive_here():
                raise self._taken(holder)
            if not (holder is not None and holder.is_dead_here()) and self._moves(latest):
                raise self._taken(holder)
        self.epoch = latest + 1
        if not self._store.put_new(
            _name("epoch", self.epoch), json.dumps(vars(Holder.me(self.epoch))).encode()
        ):
            raise self._taken(read_holder(self._store, self.epoch))

    def _moves(self, epoch: int) -> bool:
        """Whether a foreign driver's counter moves while we watch. Takes up to PATIENCE beats."""
        first = self._store.get(_name("beat", epoch))
        end = time.monotonic() + PATIENCE * self._beat_s
        while time.monotonic() < end:
            time.sleep(min(1.0, self._beat_s / 4))
            if (
                self._store.get(_name("beat", epoch)) != first
                or self._store.get(_name("end", epoch)) is not None
            ):
                return self._store.get(_name("end", epoch)) is None
        return False

    def _taken(self, holder: Holder | None) -> RunIsTaken:
        age = (
            f", at work for {duration(max(0.0, time.time() - holder.started_unix_s))}"
            if holder
            else ""
        )
        who = _who(holder) if holder else "another machine"
        return RunIsTaken(
            f"{self._run} is being rendered already: a driver on {who}{age}. Two drivers would only"
            " do the same work twice. Wait for it (pano status shows how far it is), stop it, or"
            " render into another folder (run=…)"
        )

    def _beat_loop(self) -> None:
        while not self._stop.wait(self._beat_s):
            if (latest := latest_epoch(self._store)) > self.epoch:
                self._lost = read_holder(self._store, latest) or Holder(
                    latest, "another machine", 0, "", None, time.time()
                )
                return
            self._beat()

    def _beat(self) -> None:
        self._count += 1
        beat = {"epoch": self.epoch, "count": self._count, "unix_s": time.time(), **self.payload()}
        try:
            self._store.put(_name("beat", self.epoch), json.dumps(beat).encode())
        except (
            UserError
        ):  # a full disk: the work itself will say so; a missed beat alone must not end the run
            return


def latest_epoch(store: Store) -> int:
    """Number of the latest driver of a run; 0 if there was none."""
    numbers = [
        int(name[-13:-5]) for name in store.names("lease") if name.startswith("lease/epoch-")
    ]
    return max(numbers, default=0)


def read_holder(store: Store, epoch: int) -> Holder | None:
    """Who has that epoch; None if it cannot be read."""
    try:
        return Holder(**json.loads(store.get(_name("epoch", epoch)) or b""))
    except (ValueError, TypeError):
        return None


def read_beat(store: Store) -> tuple[dict[str, Any] | None, bool]:
    """The latest driver's last beat, and whether that driver has ended properly."""
    epoch = latest_epoch(store)
    try:
        beat = json.loads(store.get(_name("beat", epoch)) or b"")
    except ValueError:
        beat = None
    return beat, store.get(_name("end", epoch)) is not None


def _name(kind: str, epoch: int) -> str:
    return f"lease/{kind}-{epoch:08d}.json"


def _who(holder: Holder) -> str:
    return f"{holder.host} (process {holder.pid})" if holder.pid else holder.host


def _machine() -> str:
    """This boot of this machine, in this container."""
    parts = [platform.node()]
    for path in ("/proc/sys/kernel/random/boot_id",):
        parts.append(Path(path).read_text().strip() if Path(path).exists() else "")
    namespace = Path("/proc/self/ns/pid")
    parts.append(os.readlink(namespace) if namespace.exists() else "")
    return "/".join(parts)
