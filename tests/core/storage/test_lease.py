"""The lease: one writer per place, on disk and on an object store; the dead make way, the living
do not.
"""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator

import buckets
import pytest

from panoforge.core.storage.lease import Holder, InUse, Lease, LeaseLost, held, latest_epoch
from panoforge.core.storage.store import Store

HOLD = """
import sys, time
from panoforge.core.storage.lease import held
with held(sys.argv[1], "pano pack", heartbeat_s=0.1):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with buckets.bucket() as url:
        yield url


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path) -> Store:
    if request.param == "folder":
        return Store(str(tmp_path / "place"))
    return Store(f"{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}")


def put_foreign(store: Store, epoch: int) -> None:
    holder = Holder.me(epoch, "pano render").model_copy(
        update={
            "host": "far-away",
            "machine": "another",
            "started_unix_s": time.time() - 7200,
        }
    )
    store.put(f"lease/epoch-{epoch:08d}.json", holder.model_dump_json().encode())
    store.put(f"lease/heartbeat-{epoch:08d}.json", b'{"count": 1}')


def test_the_second_is_refused_with_the_firsts_name_and_age(store):
    with held(store, "pano repair"):
        message = (
            rf"in use: pano repair on \S+ \(process {os.getpid()}\) since \d{{4}}-\S+ \S+ UTC, at"
            r" work for"
        )
        with pytest.raises(InUse, match=message), held(store, "pano pack"):
            pass
    with held(store, "pano pack"):
        assert store.names("lease")
    assert not store.names("lease"), "nothing is left behind"


def test_a_kept_lease_says_how_it_ended(store):
    for epoch in (1, 2):
        with Lease(store, "r", "pano render", keep=True) as lease:
            assert lease.epoch == epoch
    assert store.names("lease") == [
        f"lease/{kind}-00000002.json" for kind in ("end", "epoch", "heartbeat")
    ]


def test_a_process_killed_here_is_replaced_at_once(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"held\n"
    with (
        pytest.raises(InUse, match=f"pano pack on .*process {child.pid}"),
        held(tmp_path, "second"),
    ):
        pass
    child.kill()
    child.wait()
    begin = time.monotonic()
    with held(tmp_path, "third") as lease:
        assert lease.epoch == 2 and time.monotonic() - begin < 10
    assert not list(tmp_path.iterdir()), "what the dead one left is gone too"


def test_a_foreign_holder_is_alive_if_its_counter_moves_whatever_the_clocks_say(store, monkeypatch):
    put_foreign(store, 1)
    name = "lease/heartbeat-00000001.json"
    mover = threading.Timer(1.0, lambda: store.put(name, b'{"count": 2}'))
    mover.start()
    monkeypatch.setattr(time, "time", lambda: 10.0)  # this machine's clock is at 1970
    with (
        pytest.raises(InUse, match=r"far-away .* at work for 0:00:00"),
        held(store, "x", heartbeat_s=1),
    ):
        pass
    mover.join()
    with held(store, "x", heartbeat_s=0.05) as lease:  # now it stands still
        assert lease.epoch == 2


@pytest.mark.parametrize("how", ["a higher epoch", "its own epoch in another hand"])
def test_a_holder_that_slept_finds_its_successor_and_stops(store, how):
    epoch = 2 if how == "a higher epoch" else 1
    with held(store, "pano pack", heartbeat_s=0.05) as lease:
        lease.check()
        put_foreign(store, epoch)
        lease._thread.join(timeout=20)  # the heartbeat that finds it is the last one
        with pytest.raises(LeaseLost, match="taken over by pano render on far-away"):
            lease.check()
    assert latest_epoch(store) == epoch, "the successor's lease is left alone"


def test_a_late_comer_that_judged_an_older_state_withdraws(store, monkeypatch):
    """It saw nobody; meanwhile another came, and made an epoch that it does not collide with."""
    put_foreign(store, 7)
    monkeypatch.setattr("panoforge.core.storage.lease._epochs", _answers([], [1, 7]))
    with pytest.raises(InUse, match="far-away"), held(store, "late"):
        pass
    assert store.get("lease/epoch-00000001.json") is None
    assert store.get("lease/epoch-00000007.json") is not None


def _answers(*values):
    queue = list(values)
    return lambda store: queue.pop(0)


def test_records_that_cannot_be_read_are_watched_like_foreign_ones(store):
    store.put("lease/epoch-00000001.json", b"[" * 100_000)
    with held(store, "x", heartbeat_s=0.05) as lease:
        assert lease.epoch == 2


def test_of_many_at_once_one_wins(tmp_path):
    won, refused = [], []
    gate = threading.Barrier(8)

    def contend() -> None:
        gate.wait()
        try:
            with held(tmp_path, "contender") as lease:
                won.append(lease.epoch)
                time.sleep(0.5)
        except InUse as error:
            refused.append(str(error))

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(refused) == 7


@pytest.mark.parametrize("began", [1e300, -1e17, 253402300800.0])
def test_a_time_that_no_calendar_has_is_no_record(tmp_path, began):
    """It is watched like any record that cannot be read, and nothing is said of such a time."""
    (tmp_path / "lease").mkdir()
    record = Holder.me(1, "x").model_dump() | {"started_unix_s": began}
    (tmp_path / "lease" / "epoch-00000001.json").write_text(json.dumps(record))
    with held(tmp_path, "pano pack", heartbeat_s=0.02) as lease:
        assert lease.epoch == 2
