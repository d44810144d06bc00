"""The ledger and the lease: nothing is lost, nothing counts twice, on disk and on an object store,
after a crash anywhere.
"""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator

import buckets
import pytest

from panoforge.cluster.state import ledger as ledger_module
from panoforge.cluster.state.ledger import FAN_IN, AttemptRecord, Ledger, new_id
from panoforge.cluster.state.policy import AttemptFault
from panoforge.cluster.state.scene_states import COLUMNS, SceneState, read_scene_states
from panoforge.cluster.state.tally import sum_json_columns
from panoforge.core.errors import ConfigError, StorageError


def record(index=0, attempt=1, outcome="done", **change) -> AttemptRecord:
    key = f"s-{index:08d}"
    fields = {
        "id": new_id(index, attempt),
        "index": index,
        "scene": key,
        "attempt": attempt,
        "outcome": outcome,
        "panoramas": (f"{key}-c0",) if outcome == "done" else (),
        "job_sha256": "a" * 64,
        "started_unix_s": 1.0,
    }
    if outcome == "fault":
        fields |= {"fault": AttemptFault.CRASH, "reason": "boom"}
    return AttemptRecord(**{**fields, **change})


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with buckets.bucket() as url:
        yield url


@pytest.fixture(params=["folder", "object store", "s3"])
def ledger(request, tmp_path) -> Ledger:
    if request.param == "folder":
        return Ledger(str(tmp_path / "ledger"))
    where = "memory:/" if request.param == "object store" else request.getfixturevalue("bucket")
    return Ledger(f"{where}/{uuid.uuid4().hex}")


def states(ledger: Ledger, total: int, staged: set[str] | None = None) -> list[SceneState]:
    return [
        SceneState(state) for state in read_scene_states(ledger.table(COLUMNS), total, staged).codes
    ]


def test_records_survive_compaction_whole(ledger):
    written = [record(i, timings_s={"render": 1.5}, log_tail="é\n") for i in range(5)] + [
        record(3, 2, "fault")
    ]
    for entry in written:
        ledger.write(entry)
    before = ledger.records()
    assert before == sorted(written, key=lambda r: (r.index, r.attempt))
    ledger.compact_all()
    assert ledger.store.names("attempts") == [] and len(ledger.store.names("segments")) == 1
    assert ledger.records() == before
    assert ledger.of_scene("s-00000003") == [written[3], written[5]]


def test_segments_are_merged_and_stay_few(ledger):
    for i in range(2 * FAN_IN + 3):
        ledger.compact([record(i)])
    assert len(ledger.store.names("segments")) == 2 + 3
    assert [r.index for r in ledger.records()] == list(range(2 * FAN_IN + 3))


@pytest.mark.parametrize("calls_before_crash", range(6))
def test_a_crash_anywhere_in_a_compaction_loses_and_doubles_nothing(
    ledger, monkeypatch, calls_before_crash
):
    for i in range(FAN_IN - 1):
        ledger.compact([record(i)])
    for i in range(FAN_IN - 1, FAN_IN + 1):
        ledger.write(record(i))
    calls = 0

    class Crash(BaseException):
        pass

    def counted(original):
        def call(*arguments):
            nonlocal calls
            calls += 1
            if calls > calls_before_crash:
                raise Crash
            return original(*arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(ledger.store, "put", counted(ledger.store.put))
        patch.setattr(ledger.store, "delete", counted(ledger.store.delete))
        with pytest.raises(Crash):
            ledger.compact_all()
    assert [r.index for r in ledger.records()] == list(range(FAN_IN + 1))
    ledger.compact_all()
    ledger.compact([record(FAN_IN + 1)])
    assert [r.index for r in ledger.records()] == list(range(FAN_IN + 2))


def test_a_reader_is_right_while_the_driver_compacts(ledger):
    total, stop = 120, threading.Event()
    for i in range(total):
        ledger.write(record(i))
    seen = []

    def read():
        while not stop.is_set():
            seen.append(sorted(ledger.table(["index"])["index"].to_pylist()))

    reader = threading.Thread(target=read)
    reader.start()
    everything = ledger.records()
    for at in range(0, total, 5):
        while (
            reader.is_alive() and len(seen) < at // 30
        ):  # a slow bucket: let the reader see some of the states between
            time.sleep(0.01)
        ledger.compact(everything[at : at + 5])
    stop.set()
    reader.join()
    assert len(seen) > 2 and all(indices == list(range(total)) for indices in seen)


def test_what_is_torn_is_not_believed(ledger, caplog):
    for i in range(3):
        ledger.write(record(i))
    ledger.store.put(ledger.store.names("attempts")[1], b'{"schema_version": 1, "id": "000')
    assert states(ledger, 3) == [SceneState.DONE, SceneState.OPEN, SceneState.DONE]
    ledger.compact_all()
    (name,) = ledger.store.names("segments")
    data = ledger.store.get(name)
    ledger.store.put(name, data[:100] + bytes([data[100] ^ 1]) + data[101:])
    assert states(ledger, 3) == [SceneState.OPEN] * 3
    assert "does not have the digest in its name" in caplog.text


def test_a_ledger_is_of_one_job(ledger):
    ledger.declare("a" * 64, {})
    ledger.declare("a" * 64, {})
    with pytest.raises(
        ConfigError, match=r"another render config \(aaaaaaaaaaaa, this one is bbbbbbbbbbbb\).*run="
    ):
        ledger.declare("b" * 64, {})


def test_the_book_says_where_each_scene_stands(ledger):
    for entry in [
        record(0),
        record(1, outcome="rejected"),
        record(2, outcome="fault"),
        record(2, 2, "fault"),
        record(2, 2, "quarantined"),
        record(3, outcome="fault"),
        record(4),
        record(4),
        record(5, outcome="fault"),
        record(5),
        record(6),
        record(7, outcome="fault"),
        record(7, outcome="quarantined"),
        record(7, outcome="retry"),
        record(7, 2, "fault", reason="new"),
    ]:
        ledger.write(entry)
    staged = {f"s-{i:08d}-c0" for i in (0, 4, 5)}
    scene_states = read_scene_states(ledger.table(COLUMNS), 9, staged)
    done, open_ = SceneState.DONE, SceneState.OPEN
    assert list(scene_states.codes) == [
        done,
        SceneState.REJECTED,
        SceneState.QUARANTINED,
        open_,
        done,
        done,
        open_,
        open_,
        open_,
    ]
    assert scene_states.faults == {
        3: [(AttemptFault.CRASH, "boom")],
        6: [],
        7: [(AttemptFault.CRASH, "new")],
    }
    assert scene_states.attempts == {3: 1, 6: 1, 7: 2}
    assert list(scene_states.fresh()) == [8]
    scene_states.apply(record(3, 2))
    scene_states.apply(record(3, 2))
    assert scene_states.count(SceneState.DONE) == 4 and 3 not in scene_states.attempts


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failing_system_call_leaves_the_old_ledger(tmp_path, monkeypatch, step):
    """Fail the N-th call for every N of a record and a compaction: either the old or the new state,
    and no rubbish.
    """
    ledger = Ledger(str(tmp_path / "ledger"))
    ledger.write(record(0))
    for n in range(1, 20):
        calls = 0
        original = getattr(os, step if step != "write" else "fsync")

        def fail(*arguments, _n=n, _original=original):
            nonlocal calls
            calls += 1
            if calls == _n:
                raise OSError(28, "No space left on device")
            return _original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, step if step != "write" else "fsync", fail)
            with contextlib.suppress(StorageError):
                ledger.write(record(n))
                ledger.compact(list(ledger._loose()))
        indices = [r.index for r in ledger.records()]
        assert indices in (list(range(n)), list(range(n + 1)))
        assert not [path for path in (tmp_path / "ledger").rglob(".tmp-*")]
        if indices == list(range(n)):
            ledger.write(record(n))
        if calls < n:
            return
    pytest.fail("the loop never came to its end")


def test_put_new_has_one_winner(ledger):
    won = []

    def put(i: int) -> None:
        if ledger.store.put_new("x/y", bytes([i])):
            won.append(i)

    threads = [threading.Thread(target=put, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and ledger.store.get("x/y") == bytes(won)


def test_the_cap_on_a_record(ledger, monkeypatch):
    monkeypatch.setattr(ledger_module, "MAX_RECORD_BYTES", 100)
    ledger.write(record(0))
    assert ledger.records() == []


def test_figures_that_a_segment_cannot_mean_are_left_out(tmp_path):
    """Whoever writes a segment gives it its digest: a run that is done does not fail by it."""
    found = Ledger(str(tmp_path))
    table = ledger_module.to_table([record(i, timings_s={"render": 1.5}) for i in range(6)])
    texts = ['{"render": 1.5}', "[", "[1]", '{"a": "b"}', '{"a": NaN}', None]
    column = table.schema.get_field_index("timings_s")
    found._put_segment(0, table.set_column(column, "timings_s", [texts]), replaces=())
    assert sum_json_columns(found, 6) == ({"render": 1.5}, {})
