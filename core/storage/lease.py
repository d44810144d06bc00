"""One writer per place.

A lease made of small objects, safe against dead holders, slow ones, and clocks that jump.

    with held(dataset, "pano pack") as lease:   # InUse if another process works there
        build()
        lease.check()                           # LeaseLost if another took over meanwhile
        commit()

Each holder makes the next `lease/epoch-N.json`, which only one can. While it lives it counts up
`lease/heartbeat-N.json`. At the end it removes both, or leaves `lease/end-N.json` where others want
to know how it ended (`Lease(keep=True)`). A holder on this machine is looked up in the process
table. Another machine's is watched: it lives if its counter moves, by our own monotonic clock. No
two clocks are compared; a wrong clock changes only the times in messages. A holder that was paused
for long finds another one's epoch at its next heartbeat.
"""

import contextlib
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field, ValidationError

from panoforge.core.errors import UserError
from panoforge.core.models import FrozenModel
from panoforge.core.process_identity import machine, start_ticks
from panoforge.core.storage.store import Store, StoreLike

HEARTBEAT_S = 5.0
PATIENCE = 4  # heartbeats that a foreign holder may miss
FOLDER = "lease"


# Until the year 9999, which is as far as calendars go.
UnixSeconds = Annotated[float, Field(ge=0, lt=253402300800)]


class InUse(UserError):
    """Another process works on this place."""


class LeaseLost(UserError):
    """Another process took this place over because this one gave no heartbeat."""


class Holder(FrozenModel):
    """Who holds, or held, a place, and what for.

    `machine` tells boots and containers apart, `start_ticks` a process from its successor, `nonce`
    a lease from any other.
    """

    epoch: int
    host: str
    pid: int
    machine: str
    start_ticks: int | None
    started_unix_s: UnixSeconds
    what: str = "another process"
    nonce: str = ""

    @classmethod
    def me(cls, epoch: int, what: str) -> "Holder":
        """This process as the holder of `epoch`."""
        return cls(
            epoch=epoch,
            host=platform.node(),
            pid=os.getpid(),
            machine=machine(),
            start_ticks=start_ticks(os.getpid()),
            started_unix_s=time.time(),
            what=what,
            nonce=uuid.uuid4().hex,
        )

    def is_dead_here(self) -> bool:
        """True if it ran on this very machine and is gone.

        False also where that cannot be known.
        """
        return self.machine == machine() and (
            self.start_ticks is None or start_ticks(self.pid) != self.start_ticks
        )

    def is_alive_here(self) -> bool:
        """True if it runs on this very machine; False also where that cannot be known."""
        return self.machine == machine() and not self.is_dead_here()

    def was_let_go(self) -> bool:
        """True if this very process had it, and no longer has: its last words were not written."""
        mine = (self.machine, self.pid) == (machine(), os.getpid())
        return mine and not self.is_dead_here() and self.nonce not in _HELD

    def __str__(self) -> str:
        where = f"{self.host} (process {self.pid})" if self.pid else self.host
        return f"{self.what} on {where}"


_HELD: set[str] = set()  # nonces of the leases that this process has


class Lease:
    """A lease on what is in `store`. Use as a context manager; `check()` before each commit.

    Args:
        store: where the `lease/` folder goes.
        place: what messages call the place.
        what: what messages call this holder, e.g. `pano render`.
        heartbeat_s: seconds between heartbeats.
        payload: more to be said with each heartbeat.
        keep: leave `end-N.json` and the last heartbeat behind, for `pano status`.
    """

    def __init__(
        self,
        store: Store,
        place: str,
        what: str,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        payload: Callable[[], dict[str, Any]] = dict,
        keep: bool = False,
    ) -> None:
        self._store, self._place, self._what = store, place, what
        self._heartbeat_s, self._keep, self.payload = heartbeat_s, keep, payload
        self._count = 0
        self._stop = threading.Event()
        self._lost: Holder | None = None
        self._nonce, self._mine = "", b""
        self._made_root = store.local is not None and not store.local.exists()
        self._thread = threading.Thread(target=self._heartbeat_loop, name="lease", daemon=True)
        self.epoch = 0

    def __enter__(self) -> "Lease":
        try:
            self._acquire()
            self._heartbeat()
            self._thread.start()
        except BaseException:
            _HELD.discard(self._nonce)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _HELD.discard(self._nonce)
        self._stop.set()
        self._thread.join()
        if self._lost:
            return
        with contextlib.suppress(UserError):  # a full disk: the next one finds this process dead
            if self._keep:
                self._heartbeat()
                self._store.put(_name("end", self.epoch), b"{}\n")
            else:
                self._withdraw()

    def check(self) -> None:
        """LeaseLost if another process has taken over."""
        if self._lost:
            raise LeaseLost(
                f"{self._place} was taken over by {self._lost}, because this process gave no sign"
                " of life for a while (a paused machine?). Nothing is lost: whatever this one"
                " finished counts"
            )

    def _acquire(self) -> None:
        epochs = _epochs(self._store)
        for epoch in epochs:
            self._refuse_if_held(epoch)
        self.epoch = max(epochs, default=0) + 1
        me = Holder.me(self.epoch, self._what)
        self._nonce, self._mine = me.nonce, me.model_dump_json().encode()
        _HELD.add(self._nonce)  # before others can read it
        if not self._store.put_new(_name("epoch", self.epoch), self._mine):
            raise self._in_use(read_holder(self._store, self.epoch))
        # A late-comer that judged an older state may have made another epoch meanwhile.
        if others := [e for e in _epochs(self._store) if e != self.epoch and e not in epochs]:
            self._withdraw()
            raise self._in_use(read_holder(self._store, others[-1]))
        for epoch in epochs:
            _remove(self._store, epoch)
        self._store.sweep(FOLDER)

    def _refuse_if_held(self, epoch: int) -> None:
        """InUse unless that epoch's holder has ended or is dead."""
        if _has_ended(self._store, epoch):
            return
        holder = read_holder(self._store, epoch)
        if holder is not None and (holder.is_dead_here() or holder.was_let_go()):
            return
        if (holder is not None and holder.is_alive_here()) or self._moves(epoch):
            raise self._in_use(holder)

    def _moves(self, epoch: int) -> bool:
        """Whether a foreign holder's counter moves while we watch, for PATIENCE heartbeats."""
        first = self._store.get(_name("heartbeat", epoch))
        end = time.monotonic() + PATIENCE * self._heartbeat_s
        while time.monotonic() < end:
            time.sleep(min(1.0, self._heartbeat_s / 4))
            if _has_ended(self._store, epoch):
                return False
            if self._store.get(_name("heartbeat", epoch)) != first:
                return True
        return False

    def _in_use(self, holder: Holder | None) -> InUse:
        since = ""
        if holder is not None:
            began = time.strftime("%F %T", time.gmtime(holder.started_unix_s))
            age = timedelta(seconds=max(0, round(time.time() - holder.started_unix_s)))
            since = f" since {began} UTC, at work for {age}"
        return InUse(
            f"{self._place} is in use: {holder or 'a process on another machine'}{since}. Two at"
            " once would mix their work or do it twice. Wait for it, stop it, or use another folder"
        )

    def _heartbeat_loop(self) -> None:
        while not self._stop.wait(self._heartbeat_s):
            with contextlib.suppress(UserError):  # the store cannot be reached now
                latest = latest_epoch(self._store)
                if latest > self.epoch or self._store.get(_name("epoch", self.epoch)) != self._mine:
                    self._lost = read_holder(self._store, latest) or _somebody(latest)
                    return
                self._heartbeat()

    def _heartbeat(self) -> None:
        self._count += 1
        heartbeat = {
            "epoch": self.epoch,
            "count": self._count,
            "unix_s": time.time(),
            **self.payload(),
        }
        # A full disk: the work itself will say so; a missed heartbeat alone must not end it.
        with contextlib.suppress(UserError):
            self._store.put(_name("heartbeat", self.epoch), json.dumps(heartbeat).encode())

    def _withdraw(self) -> None:
        _remove(self._store, self.epoch)
        if self._store.local is not None:
            with contextlib.suppress(OSError):  # another's lease is there, or what we made
                (self._store.local / FOLDER).rmdir()
                if self._made_root:
                    for empty in self._store.local.iterdir():  # folders of work that failed
                        empty.rmdir()
                    self._store.local.rmdir()


@contextlib.contextmanager
def held(place: StoreLike, what: str, *, heartbeat_s: float = HEARTBEAT_S) -> Iterator[Lease]:
    """Hold a folder or bucket while something is written there; nothing is left behind.

    Args:
        place: the folder or URL; it is made if it does not exist.
        what: who we are in the message that a second writer gets, e.g. `pano pack`.
        heartbeat_s: seconds between heartbeats.

    Yields:
        The lease. Call its `check()` before a commit.

    Raises:
        InUse: another living process holds the place; its host, pid and start are named.
    """
    store = Store.at(place)
    with Lease(store, str(store), what, heartbeat_s=heartbeat_s) as lease:
        yield lease


def latest_epoch(store: Store) -> int:
    """Number of the latest holder; 0 if there is none on record."""
    return max(_epochs(store), default=0)


def read_holder(store: Store, epoch: int) -> Holder | None:
    """Who has that epoch; None if it cannot be read."""
    try:
        return Holder.model_validate_json(store.get(_name("epoch", epoch)) or b"")
    except ValidationError:
        return None


def read_heartbeat(store: Store) -> tuple[dict[str, Any] | None, bool]:
    """The latest holder's last heartbeat, and whether that holder has ended properly."""
    epoch = latest_epoch(store)
    try:
        heartbeat = json.loads(store.get(_name("heartbeat", epoch)) or b"")
    except (ValueError, RecursionError):
        heartbeat = None
    return heartbeat if isinstance(heartbeat, dict) else None, store.get(
        _name("end", epoch)
    ) is not None


def _epochs(store: Store) -> list[int]:
    """Numbers of all holders on record, ascending."""
    start, end = f"{FOLDER}/epoch-", ".json"
    numbers = [
        name.removeprefix(start).removesuffix(end)
        for name in store.names(FOLDER)
        if name.startswith(start) and name.endswith(end)
    ]
    return sorted(int(number) for number in numbers if number.isascii() and number.isdigit())


def _has_ended(store: Store, epoch: int) -> bool:
    """Whether a holder said that it ended, or left without a trace."""
    return store.get(_name("end", epoch)) is not None or store.get(_name("epoch", epoch)) is None


def _remove(store: Store, epoch: int) -> None:
    for kind in ("heartbeat", "end", "epoch"):  # the epoch last: without it there is no holder
        store.delete(_name(kind, epoch))


def _somebody(epoch: int) -> Holder:
    return Holder(
        epoch=epoch,
        host="another machine",
        pid=0,
        machine="",
        start_ticks=None,
        started_unix_s=time.time(),
    )


def _name(kind: str, epoch: int) -> str:
    return f"{FOLDER}/{kind}-{epoch:08d}.json"
