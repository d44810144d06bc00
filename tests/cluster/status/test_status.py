"""What a run says of itself: status, plan, logs, retry, the page; and how fast it says it of
183,440 scenes.
"""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from chaos_runs import wait_for

from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.config.limits import CostConfig
from panoforge.cluster.config.sections import load_section
from panoforge.cluster.render.images import image_config_sha256
from panoforge.cluster.render.retry import retry, scene_log
from panoforge.cluster.state.job_file import save_job
from panoforge.cluster.state.ledger import AttemptRecord, Ledger, new_id, to_table
from panoforge.cluster.state.policy import AttemptFault
from panoforge.cluster.state.scene_states import COLUMNS, SceneState, read_scene_states
from panoforge.cluster.state.tally import recent_rate
from panoforge.cluster.status.plan import plan_run
from panoforge.cluster.status.status import as_lines, read_status
from panoforge.cluster.status.status_page import write_page
from panoforge.core.errors import DataError, UsageError
from panoforge.core.storage.lease import Lease
from panoforge.datagen.config.quality_profiles import profile_fields, profile_overrides
from panoforge.datagen.config.render import RoomsSource, plan_scene
from panoforge.datagen.cost.expected_cost import KINDS, PROBE, expected_cost, sample_share
from panoforge.datagen.sources.base import MODULES
from panoforge.stages import plan_stage

T0 = 1.7e9


def rooms(*names: str) -> tuple[RoomsSource, ...]:
    return (RoomsSource(source="infinigen2.rooms", rooms=names),)


def config(run, scenes=20, **change) -> RenderJobConfig:
    fields = {
        "run": run,
        "scenes": scenes,
        "sources": rooms("kitchen", "bathroom"),
        "cameras_per_scene": 2,
    }
    return RenderJobConfig(**{**fields, **change})


def record(job: RenderJobConfig, index: int, attempt=1, outcome="done", **change) -> AttemptRecord:
    scene = plan_scene(job.render, index)
    fields = {
        "id": new_id(index, attempt),
        "index": index,
        "scene": scene.key,
        "attempt": attempt,
        "outcome": outcome,
        "panoramas": tuple(scene.sample_key(c) for c in range(2)) if outcome == "done" else (),
        "node": "host/n1",
        "job_sha256": image_config_sha256(job.render),
        "started_unix_s": T0 + 60 * index,
        "seconds": 30.0 if index % 2 == 0 else 10.0,
        "cpus": 2.0,
        "peak_memory_mb": 900.0 + index,
        "staged_bytes": 1000 if outcome == "done" else 0,
        "log": f"logs/{scene.key}.log",
    }
    return AttemptRecord(**{**fields, **change})


@pytest.fixture
def run(tmp_path):
    """20 scenes: 10 done, one of them at the second attempt; scene 10 rejected, 11 and 12
    quarantined, 13 done twice.
    """
    job = config(tmp_path / "run", cost=CostConfig(usd_per_cpu_hour=0.04))
    ledger = Ledger(job.ledger_url)
    ledger.declare(image_config_sha256(job.render), {})
    save_job(job)
    for index in range(1, 10):
        ledger.write(record(job, index))
    ledger.write(record(job, 0, 1, "fault", fault=AttemptFault.LOST, reason="its node was lost"))
    ledger.write(record(job, 0, 2))
    ledger.write(record(job, 10, outcome="rejected", reason="no pose of any seed was accepted"))
    for index, fault in ((11, AttemptFault.OOM), (12, AttemptFault.CRASH)):
        for attempt in (1, 2, 3):
            ledger.write(
                record(job, index, attempt, "fault", fault=fault, reason=f"{fault} it was")
            )
        ledger.write(
            record(
                job,
                index,
                3,
                "quarantined",
                fault=fault,
                reason=f"{fault} in 3 attempts",
                seconds=0.0,
            )
        )
    for attempt in (1, 2):
        ledger.write(record(job, 13, attempt, seconds=10.0))
    return tmp_path / "run"


def test_the_status_adds_up(run):
    status = read_status(run)
    t = status.tally
    assert t.states == {"open": 6, "done": 11, "rejected": 1, "quarantined": 2}
    assert (t.settled, t.panoramas, t.staged_bytes) == (14, 22, 11_000)
    assert t.faults == {"oom": 3, "crash": 3, "lost": 1}
    assert set(t.reasons.items()) == {
        ("rejected: no pose of any seed was accepted", 1),
        ("failed: oom in 3 attempts", 1),
        ("failed: crash in 3 attempts", 1),
    }
    done_s = 5 * 30 + 5 * 10 + 2 * 10  # scenes 0-9, and 13 twice
    fault_s = 30 + 3 * 10 + 3 * 30
    assert t.core_hours == pytest.approx(2 * (done_s + 30 + fault_s) / 3600)  # and scene 10
    assert t.wasted_core_hours == pytest.approx(2 * fault_s / 3600)
    assert status.money.so_far == pytest.approx(0.04 * t.core_hours)
    assert status.core_hours_at_end == pytest.approx(t.core_hours * 20 / 14)
    assert status.state == "stopped" and status.eta_s is None
    assert t.slowest[0][1] == 30.0 and t.nodes[0].done == 12
    text = "\n".join(as_lines(status))
    assert "11 done, 0 running, 6 waiting, 1 rejected, 2 failed of 20 scenes (70.0 %)" in text
    assert "failed: oom in 3 attempts" in text
    assert json.loads(json.dumps(status.as_json()))["tally"]["states"]["done"] == 11


def test_a_driver_at_work_is_seen(run):
    heartbeat = {
        "in_flight": 5,
        "slots": 3,
        "oldest": [{"scene": "s", "attempt": 1, "seconds": 4.0}],
    }
    with Lease(
        Ledger(str(run / "ledger")).store,
        "r",
        "pano render",
        keep=True,
        payload=lambda: heartbeat,
        heartbeat_s=0.05,
    ):
        status = read_status(run)
        assert (status.state, status.running, status.waiting) == ("running", 3, 3)
        heartbeat["begun"] = 1  # the cluster has other work
        wait_for(lambda: read_status(run).running == 1)
        assert read_status(run).waiting == 5
        assert status.eta_s == pytest.approx(3600 * 6 / status.tally.recent_scenes_per_hour)
    assert read_status(run).state == "stopped"


def test_estimates_say_nothing_until_they_know(tmp_path):
    """The first round of two workers that ended together is no rate, and no money either."""
    job = config(tmp_path / "run", scenes=4, cost=CostConfig(usd_per_cpu_hour=0.04))
    ledger = Ledger(job.ledger_url)
    ledger.declare(image_config_sha256(job.render), {})
    save_job(job)
    for index in range(2):
        ledger.write(record(job, index, started_unix_s=T0 + 0.1 * index, seconds=240.0))
    with Lease(ledger.store, "r", "pano render", keep=True, payload=lambda: {"in_flight": 2}):
        status = read_status(tmp_path / "run")
    assert (status.eta_s, status.panoramas_per_hour) == (None, None)
    assert (status.core_hours_at_end, status.money.at_end) == (None, None)
    assert status.money.so_far == pytest.approx(0.04 * 2 * 2 * 240 / 3600)


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_a_rate_is_that_of_the_time_in_which_scenes_ran(slots):
    """Scenes of 100 s in rounds, and a night's pause after the first half."""
    rounds = np.repeat(np.arange(12), slots)
    began = 100.0 * rounds + np.where(rounds >= 6, 30_000.0, 0.0)
    assert recent_rate(began, began + 100) == pytest.approx(36 * slots)
    assert recent_rate(began[:4], began[:4] + 100) is None
    assert recent_rate(np.zeros(50), np.full(50, 100.0)) is None


def test_reasons_are_counted_by_kind_and_carry_the_last_words(tmp_path):
    job = config(tmp_path / "run", scenes=4)
    ledger = Ledger(job.ledger_url)
    ledger.declare(image_config_sha256(job.render), {})
    save_job(job)
    for index in range(3):
        words = f"no pose of any seed was accepted; its last words: generator: seed {index}"
        ledger.write(record(job, index, outcome="rejected", reason=words))
    found = read_status(tmp_path / "run")
    (reason,) = found.tally.reasons
    assert found.tally.reasons[reason] == 3 and reason.startswith("rejected: no pose of any seed")
    assert "; its last words: generator: seed " in reason
    assert any(f"3 × {reason}" in line for line in as_lines(found))


def test_retry_forgives_one_reason_and_keeps_the_past(run):
    with pytest.raises(
        UsageError, match=r"has the reason 'timeout'. Failed scenes have: crash, oom"
    ):
        retry(run, "timeout")
    assert retry(run, "oom") == ["rooms-bathroom-00000011"]
    ledger = Ledger(str(run / "ledger"))
    scene_states = read_scene_states(ledger.table(COLUMNS), 20, None)
    assert (
        scene_states.codes[11] == SceneState.OPEN
        and scene_states.faults[11] == []
        and scene_states.attempts[11] == 3
    )
    assert scene_states.codes[12] == SceneState.QUARANTINED
    assert [r.outcome for r in ledger.of_scene("rooms-bathroom-00000011")] == ["fault"] * 3 + [
        "quarantined",
        "retry",
    ]
    assert retry(run, None) == ["rooms-kitchen-00000012"] and retry(run, None) == []


def test_retry_writes_no_ledger_that_a_file_names_and_the_user_does_not(run, tmp_path):
    """A run from elsewhere whose render.json names the ledger of another run of mine."""
    shutil.copytree(run, tmp_path / "theirs")
    job = config(tmp_path / "theirs", ledger=str(run / "ledger"))
    save_job(job)
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(UsageError, match=r"a retry is written there only if you name it"):
        retry(tmp_path / "theirs", None)
    with pytest.raises(UsageError, match=r"not .*other: a retry"):
        retry(tmp_path / "theirs", None, str(tmp_path / "other"))
    assert before == {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    forgiven = retry(tmp_path / "theirs", None, str(run / "ledger"))
    assert forgiven == ["rooms-bathroom-00000011", "rooms-kitchen-00000012"]
    assert len(list(run.rglob("*.json"))) == len([p for p in before if p.suffix == ".json"]) + 2


def test_logs_by_name_or_number(run):
    (run / "logs").mkdir()
    (run / "logs" / "rooms-bathroom-00000011.log").write_text("the end")
    attempts, text = scene_log(run, "11")
    assert (
        text == "the end"
        and len(attempts) == 4
        and scene_log(run, "rooms-bathroom-00000011")[1] == "the end"
    )
    with pytest.raises(UsageError, match="scene 11 is rooms-bathroom-00000011"):
        scene_log(run, "rooms-kitchen-00000011")
    with pytest.raises(UsageError, match="did you mean rooms-kitchen-0000"):
        scene_log(run, "rooms-kitchen")
    with pytest.raises(DataError, match="was not begun yet"):
        scene_log(run, "19")
    with pytest.raises(DataError, match="is not the folder of a render run"):
        scene_log(run.parent, "1")


def test_a_plan_follows_from_what_scenes_took(tmp_path):
    job = config(
        tmp_path, scenes=1000, cost=CostConfig(usd_per_cpu_hour=0.1), ray={"cpus_per_scene": 2}
    )
    ledger = Ledger(job.ledger_url)
    digest = image_config_sha256(job.render)
    with pytest.raises(DataError, match="holds no scenes of these images to calibrate on"):
        plan_run(job, ledger, digest, slots=10, in_place=True)
    ledger.declare(digest, {})
    with pytest.raises(DataError, match="nothing to calibrate on"):
        plan_run(job, ledger, digest, slots=10, in_place=True)
    for index in range(
        6
    ):  # three kitchens of 30 s, two bathrooms of 10 s and one with an attempt lost
        ledger.write(record(job, index))
    ledger.write(record(job, 1, outcome="fault", fault=AttemptFault.CRASH, reason="x", seconds=3.0))
    plan = plan_run(job, ledger, digest, slots=10, in_place=True)
    busy = 497 * 30 + 497 * (10 + 1)
    assert (plan.scenes, plan.calibrated_on, plan.panoramas) == (994, 6, 2 * 994)
    assert plan.core_hours == pytest.approx(2 * busy / 3600) and plan.wall_s == pytest.approx(
        busy / 10
    )
    assert (
        plan.usd == pytest.approx(0.1 * plan.core_hours)
        and plan.memory_mb == 905
        and plan.staged_bytes == 994_000
    )
    assert plan.unseen_kinds == ()
    elsewhere = plan_run(config(tmp_path / "b", scenes=10), ledger, digest, slots=1, in_place=False)
    assert elsewhere.scenes == 10 and "time          3 min" in "\n".join(elsewhere.as_lines())


def test_a_plan_before_anything_was_made_is_what_the_config_assumes(tmp_path):
    assumed = {"core_s": 100, "gpu_s": 30, "staged_mb": 20, "memory_mb": 500, "source": "a guess"}
    cost = {"usd_per_cpu_hour": 0.1, "usd_per_gpu_hour": 2.0, "assumed": assumed}
    job = config(tmp_path, scenes=180, cost=cost, ray={"cpus_per_scene": 2, "gpus_per_scene": 0.5})
    plan = plan_stage(job, slots=10)
    panoramas = 180 * job.render.cameras_per_scene
    assert (plan.panoramas, plan.calibrated_on, plan.assumed) == (panoramas, 0, "a guess")
    assert plan.core_hours == pytest.approx(panoramas * 100 / 3600)
    assert plan.gpu_hours == pytest.approx(panoramas * 30 / 3600)
    assert plan.wall_s == pytest.approx(panoramas * max(100 / 20, 30 / 5))
    assert plan.usd == pytest.approx(0.1 * plan.core_hours + 2.0 * plan.gpu_hours)
    text = "\n".join(plan.as_lines())
    assert "no scene was made yet; assumed: a guess" in text
    assert "1.67 core-minutes, 0.5 GPU-minutes (SAP: 13.1 GPU-minutes; secondary source)" in text
    assert "50.0 s on the clock (cores of a scene: 2)" in text
    ledger = Ledger(job.ledger_url)
    ledger.declare(image_config_sha256(job.render), {})
    ledger.write(record(job, 0))
    assert plan_stage(job, slots=10).assumed is None  # what was made counts for more


def test_a_plan_of_nothing_goes_by_a_probe_and_states_its_error(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "panoforge.datagen.cost.speed_probe.measure_speed",
        lambda device: asked.append(device) or 22.0,
    )
    job = config(tmp_path, scenes=10, ray={"cpus_per_scene": 2})
    plan = plan_stage(job, slots=1)
    expected = expected_cost(job.render, 22.0)
    assert asked == ["auto"] and plan.calibrated_on == 0
    assert plan.core_hours == pytest.approx(plan.panoramas * expected.core_s / 3600)
    assert "a probe of this machine (22 core-seconds" in plan.as_lines()[0]
    assert "off by a factor of 3.5 at most" in plan.as_lines()[0]
    once = expected_cost(job.render, PROBE)
    assert expected.core_s == pytest.approx(22.0 / PROBE * once.core_s)  # a slower machine
    twice = expected_cost(job.render.model_copy(update={"cameras_per_scene": 1}), PROBE)
    assert twice.scene_s == pytest.approx(job.render.cameras_per_scene * once.scene_s)


def test_a_video_is_foretold_with_its_flows(tmp_path):
    """configs/video.yaml took 1,149 core-s (floating 165, dining room 364, living room 620)."""
    words = [f"run={tmp_path}", "ledger=null"]
    file = Path(__file__).parents[3] / "configs/video.yaml"
    job = load_section(file, RenderJobConfig, words).render
    frames = 3 * 24
    foretold = frames * expected_cost(job, PROBE).core_s
    assert 1149 / 1.5 < foretold < 1149 * 1.5
    rooms, floating = job.sources
    taken = {"livingroom": 620, "diningroom": 364}
    for room, core_s in taken.items():
        alone = job.model_copy(update={"sources": (rooms.model_copy(update={"rooms": (room,)}),)})
        assert core_s / 1.5 < 24 * expected_cost(alone, PROBE).core_s < core_s * 1.5
    flying = job.model_copy(update={"sources": (floating,)})
    still = flying.model_copy(update={"products": ("rgb", "instance", "depth", "normal")})
    both, none = (expected_cost(each, PROBE) for each in (flying, still))
    pairs = 23 / 24 * 512 * 256 / 1e6  # megapixels a frame with a flow: the last has no next one
    assert both.core_s - none.core_s == pytest.approx(2 * pairs * 3.0)
    assert both.staged_mb - none.staged_mb == pytest.approx(2 * pairs * 0.44)
    assert both.scene_s == none.scene_s == pytest.approx(15 / 24)
    one = flying.model_copy(update={"products": ("rgb", "flow_forward")})
    assert expected_cost(one, PROBE).core_s - none.core_s == pytest.approx(pairs * 3.0)


def test_a_profile_stands_before_what_was_typed(tmp_path):
    file = tmp_path / "render.yaml"
    file.write_text(f"run: {tmp_path / 'run'}\nsamples: 7\nwidth: 512\nheight: 256\n")
    draft = load_section(file, RenderJobConfig, [*profile_overrides("draft"), "max_bounces=9"])
    assert {name: getattr(draft.render, name) for name in profile_fields("draft")} == {
        **profile_fields("draft"),
        "max_bounces": 9,
    }
    assert (draft.render.width, profile_overrides(None)) == (512, [])
    costs = [
        expected_cost(draft.render.model_copy(update=profile_fields(name)), PROBE).core_s
        for name in ("preview", "draft", "final")
    ]
    assert costs == sorted(costs)


def test_every_source_has_an_expected_cost():
    assert set(KINDS) == set(MODULES)
    assert sample_share(64, 0.0) == sample_share(4, 0.1) == 1
    assert 0.25 <= sample_share(64, 0.5) < sample_share(64, 0.02) < sample_share(64, 0.01) < 1


def test_kinds_that_nobody_made_are_said(tmp_path):
    job = config(tmp_path, scenes=10)
    ledger = Ledger(job.ledger_url)
    ledger.declare(image_config_sha256(job.render), {})
    for index in (0, 2, 4):
        ledger.write(record(job, index))
    plan = plan_run(job, ledger, image_config_sha256(job.render), slots=1, in_place=True)
    assert plan.unseen_kinds == ("infinigen2.rooms bathroom",) and plan.wall_s == pytest.approx(
        7 * 30
    )


def big_ledger(folder, scenes: int) -> RenderJobConfig:
    """A ledger of that many scenes, 99 % done, as a driver leaves it: few segments."""
    job = config(folder / "run", scenes=scenes)
    ledger = Ledger(job.ledger_url)
    ledger.declare(image_config_sha256(job.render), {})
    save_job(job)
    rng = np.random.default_rng(0)
    model = record(job, 0)
    made = int(0.99 * scenes)
    for begin in range(0, made, 20_000):
        rows = []
        for index in range(begin, min(made, begin + 20_000)):
            key = f"rooms-kitchen-{index:08d}"
            rows.append(
                model.model_copy(
                    update={
                        "id": f"{index:08d}-001-{rng.integers(1 << 40):012x}",
                        "index": index,
                        "scene": key,
                        "panoramas": (f"{key}-c0", f"{key}-c1"),
                        "started_unix_s": T0 + index,
                        "timings_s": {"generate": 10.0, "sample": 20.0},
                    }
                )
            )
        ledger._put_segment(2, to_table(rows), replaces=())
    return job


@pytest.mark.slow
def test_183440_scenes_are_understood_in_a_moment(tmp_path):
    job = big_ledger(tmp_path, 183_440)
    begin = time.monotonic()
    status = read_status(job.run)
    status_s = time.monotonic() - begin
    assert status.tally.states["done"] == int(0.99 * 183_440)
    begin = time.monotonic()
    write_page(job.run)
    page_s = time.monotonic() - begin
    staged = {f"rooms-kitchen-{index:08d}-c{c}" for index in range(183_440) for c in range(2)}
    begin = time.monotonic()
    scene_states = read_scene_states(
        Ledger(job.ledger_url).table(COLUMNS), job.render.scenes, staged
    )
    first = next(scene_states.fresh())
    resume_s = time.monotonic() - begin
    assert first == int(0.99 * 183_440)
    print(f"status {status_s:.2f} s, page {page_s:.2f} s, resume {resume_s:.2f} s")
    assert (
        status_s < 5 and page_s < 5 and resume_s < 5
    )  # on a busy machine; bench/scale_sim.py holds the real bounds


@pytest.mark.parametrize(
    "hostile",
    [
        {"in_flight": "many"},
        {"slots": [1]},
        {"unix_s": "now"},
        {"unix_s": 1e300},
        {"oldest": [{"scene": "x"}]},
        {"oldest": [{"scene": "x", "attempt": 1, "seconds": "0.5"}]},
        {"oldest": 5},
        {"oldest": [{"scene": "x", "attempt": 1, "seconds": float("nan")}]},
        {"set_aside": [1]},
    ],
    ids=str,
)
def test_a_heartbeat_that_no_driver_wrote_is_not_believed(tmp_path, hostile):
    job = config(tmp_path)
    save_job(job)
    ledger = Ledger(job.ledger_url)
    ledger.declare("a" * 64, {})
    with Lease(ledger.store, "here", "pano render", heartbeat_s=60):
        heartbeat = {"epoch": 1, "count": 1, "unix_s": time.time(), "in_flight": 1, "slots": 1}
        ledger.store.put("lease/heartbeat-00000001.json", json.dumps(heartbeat).encode())
        assert read_status(tmp_path).running == 1
        ledger.store.put("lease/heartbeat-00000001.json", json.dumps(heartbeat | hostile).encode())
        status = read_status(tmp_path)
        assert as_lines(status) and write_page(tmp_path) and status.running == 0
