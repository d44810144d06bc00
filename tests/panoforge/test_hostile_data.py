"""Hostile names and links × verbs: nothing outside is read into results, changed, made or removed;
no traceback; `pano verify` finds each, and no verb that reads trusts one.
"""

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
import synthetic
from hostile_dataset import LINKS, NAMES, PLACES
from repository import ROOT
from typer.main import get_command

from panoforge.cli import main
from panoforge.cli.app import app
from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.state.job_file import save_job
from panoforge.cluster.state.ledger import AttemptRecord, Ledger, new_id
from panoforge.cluster.state.policy import AttemptFault
from panoforge.core.errors import DataError
from panoforge.core.export import FORMATS
from panoforge.core.names import check_key, check_name, check_shard, check_split
from panoforge.core.shards.repair import repair
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import PackOptions
from panoforge.core.storage.store import Store
from panoforge.datagen.config.render import RoomsSource, plan_scene

OPTIONS = PackOptions(20_000, (("train", 1.0),))
VERBS = {
    "verify": ["verify", "{d}"],
    "verify deep": ["verify", "{d}", "--deep"],
    "query": ["query", "{d}", "pixels > 0", "--extract", "{o}"],
    **{f"export {form}": ["export", "{d}", "{o}", "--to", form] for form in FORMATS},
    "export hf": ["export", "{d}", "{o}", "--to", "hf", "--name", "x", "--license", "cc-by-4.0"],
    "stats": ["stats", "{d}", "--out", "{o}"],
    "preview": ["preview", "{d}", "--out", "{o}"],
    "card": ["card", "{d}", "--name", "x", "--license", "cc-by-4.0"],
    "repair": ["repair", "{d}"],
    "pack": ["pack", "{r}", "--to", "{d}"],
}
# What does not open the dataset's index as it is: they make it anew.
MAKERS = {"pack", "repair"}
# Attacked with a dataset in a test of its own below, as they need a config.
MODELS = {"train", "eval"}
# Attacked with a run: render.json, records, logs.
RUN_VERBS = {
    "status": ["status", "{r}"],
    "status as JSON": ["status", "{r}", "--json"],
    "logs": ["logs", "{r}", "0"],
    "retry": ["retry", "{r}"],
    "plan": ["plan", "{c}", "--from", "{r}"],
    "verify rays": ["verify", "{r}", "--rays", "10"],
    "pack": ["pack", "{r}", "--to", "{o}"],
}
# What reads neither a dataset nor a run that others made, or is attacked elsewhere.
OTHERS = {
    "demo": "makes its own data",
    "config": "test_hostile_configs.py",
    "init": "reads nothing",
    "doctor": "reads nothing",
    "sources": "reads nothing",
    "render": "a config of the user's own: test_hostile_configs.py; its folder: RUN_VERBS",
    "submit": "hands the words of another verb on",
    "compare": "results.json: test_compare.py, tests/fuzz",
    "segment": "pictures: test_hostile_pictures.py",
    "predict": "pictures and checkpoints: test_hostile_pictures.py, test_hostile_checkpoints.py",
    "serve": "pictures: test_hostile_pictures.py",
    "annotate": "datasets: opened as by eval; files: as by serve; tests/label/test_annotate.py",
    "pseudolabel": "datasets: opened as by eval; files: as by serve; tests/label",
    "generate": "a config of the user's own; its cache: tests/datagen/infinigen1",
}


def test_every_verb_is_attacked():
    """A new verb, or a new export, is attacked here or says where."""
    verbs = {words[0] for words in (*VERBS.values(), *RUN_VERBS.values())} | MODELS
    assert verbs | set(OTHERS) == set(get_command(app).commands)
    assert not verbs & set(OTHERS)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    synthetic.dataset(folder / "run", scenes=3, cameras=1, width=64, n_caps=3, options=OPTIONS)
    return folder / "run"


@pytest.fixture
def sandbox(clean: Path, tmp_path: Path) -> Path:
    """dataset/ and run/, and beside them what must not be touched: victim/ and other/."""
    box = tmp_path / "sandbox"
    shutil.copytree(clean, box / "run")
    shutil.move(box / "run" / "dataset", box / "dataset")
    shutil.copytree(box / "dataset", box / "other")
    (box / "victim").mkdir()
    (box / "victim" / "thesis.txt").write_text("three years of work")
    return box


def outside(box: Path) -> dict[str, bytes]:
    """Every file that is neither the dataset's nor a verb's output."""
    ours = [box / "dataset", box / "out", box.parent / "kept", box.parent / "good"]
    ours.append(box / "run" / "run.json")
    return {
        path.relative_to(box.parent).as_posix(): path.read_bytes()
        for path in box.parent.rglob("*")
        if path.is_file() and not any(path.is_relative_to(place) for place in ours)
    }


def pano(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


def attack(box: Path, verbs: dict[str, list[str]], capfd: pytest.CaptureFixture) -> dict[str, int]:
    """Every verb on a fresh copy of the hostile dataset; gives the exit codes."""
    before, codes = outside(box), {}
    shutil.copytree(box / "dataset", box.parent / "kept", symlinks=True)
    for verb, words in verbs.items():
        places = {"d": box / "dataset", "o": box / "out", "r": box / "run"}
        codes[verb] = pano(*(word.format(**places) for word in words))
        said = capfd.readouterr()
        assert "Traceback" not in said.err + said.out, verb
        assert outside(box) == before, verb
        for folder in ("dataset", "out"):
            shutil.rmtree(box / folder, ignore_errors=True)
        shutil.copytree(box.parent / "kept", box / "dataset", symlinks=True)
    return codes


def refused(codes: dict[str, int]) -> bool:
    """Whether verify and every verb that reads said no."""
    return all(code == 1 for verb, code in codes.items() if verb not in MAKERS)


# The others go on as if nothing were wrong, training to its end: "a damaged shard" shows it once.
READERS_OF_THE_LIST = {verb: VERBS[verb] for verb in ("verify", "verify deep", "repair")}


@pytest.mark.parametrize("place", PLACES)
def test_hostile_names_in_a_dataset(sandbox, place, capfd):
    """Every verb with one of the three worst names."""
    worst = ("up", "up through a key", "absolute")
    text = NAMES[worst[list(PLACES).index(place) % 3]].format(sandbox=sandbox)
    PLACES[place](sandbox / "dataset", text)
    listed = place in ("a damaged key", "a damaged scene", "a damaged sample's bytes")
    codes = attack(sandbox, READERS_OF_THE_LIST if listed else VERBS, capfd)
    if "damaged" in place:  # only repair reads that list
        assert codes["verify"] == codes["verify deep"] == codes["repair"] == 1, codes
    else:
        assert refused(codes), codes


# Here with every name; at the other places with a few, since all go through the same check.
FULLY = ("a key, everywhere", "a shard of the manifest", "a damaged shard")
FEW = ("up", "up through a key", "NUL", "empty")


@pytest.mark.parametrize(
    ("place", "name"),
    [(place, name) for place in PLACES for name in (NAMES if place in FULLY else FEW)],
)
def test_every_name_in_every_place_is_found_and_repaired(sandbox, place, name):
    """`verify` finds it, `repair` touches nothing outside, and what repair leaves is clean."""
    text = NAMES[name].format(sandbox=sandbox)
    before = outside(sandbox)
    try:
        PLACES[place](sandbox / "dataset", text)
    except UnicodeEncodeError:
        pytest.skip("no such text can be written there")
    with contextlib.suppress(DataError):
        assert verify(sandbox / "dataset").faults, "verify trusts it"
    with contextlib.suppress(DataError):
        repair(sandbox / "dataset")
        assert verify(sandbox / "dataset", deep=True).faults == ()
    assert outside(sandbox) == before


@pytest.mark.parametrize("link", LINKS)
def test_links_that_lead_out_of_a_dataset(sandbox, link, capfd):
    LINKS[link](sandbox / "dataset", sandbox)
    codes = attack(sandbox, VERBS, capfd)
    assert codes["verify"] == codes["verify deep"] == 1
    if link not in ("quarantine/", "lease/"):
        for verb in ("query", *(f"export {name}" for name in FORMATS)):
            # Formats of videos refuse a dataset without any before they read a sample: 2.
            videos = verb != "query" and FORMATS[verb.removeprefix("export ")].panoramic
            assert codes[verb] == 1 or (videos and codes[verb] == 2), (verb, codes)


def test_links_that_stay_inside_are_followed(sandbox):
    """A dataset that is itself reached by a link, and a shard that is a link to its neighbour."""
    (sandbox / "door").symlink_to(sandbox / "dataset")
    shard = next((sandbox / "dataset" / "shards").iterdir())
    shard.rename(shard.with_name("kept.bin"))
    shard.symlink_to("kept.bin")
    assert verify(sandbox / "door", deep=True).faults == ()


@pytest.mark.parametrize("what", ["a panorama", "a member", "its metadata", "staged/"])
def test_links_that_lead_out_of_what_is_staged(sandbox, what, capfd):
    staged = sandbox / "run" / "staged"
    place = {
        "a panorama": staged / "caps-000001-c0",
        "a member": staged / "caps-000001-c0" / "rgb.jpg",
        "its metadata": staged / "caps-000001-c0" / "meta.json",
        "staged/": staged,
    }[what]
    place.rename(sandbox / "victim" / "moved")
    place.symlink_to(sandbox / "victim" / "moved")
    before = outside(sandbox)
    code = pano("pack", str(sandbox / "run"), "--to", str(sandbox / "out"))
    said = capfd.readouterr()
    assert "Traceback" not in said.err and outside(sandbox) == before
    if what != "staged/":  # the user's own link to another disk
        assert code == 1 and "leads out of" in said.err


@pytest.mark.parametrize(
    "change",
    [
        {"key": "../../x"},
        {"scene": "../x"},
        {"products": ["../x", "rgb.jpg"]},
        {"seed": 2**63},
        {"seed": -1},
        {"camera": 2**31},
        {"width": 2**40},
    ],
    ids=str,
)
def test_hostile_metadata_that_is_staged_is_refused_in_one_line(sandbox, change, capfd):
    path = sandbox / "run" / "staged" / "caps-000001-c0" / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert pano("pack", str(sandbox / "run"), "--to", str(sandbox / "out")) == 1
    said = capfd.readouterr().err
    assert "staged/caps-000001-c0: meta.json does not fit schema version 1" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("member", ["rgb.jpg", "instance.zst", "depth.delta.zst"])
@pytest.mark.parametrize("left", ["nothing", "a header", "half", "all but a byte"])
def test_what_is_staged_and_cut_short_is_not_packed(sandbox, member, left, capfd):
    """Its end is asked for, which costs nothing; only bits that are wrong inside need decoding."""
    path = sandbox / "run" / "staged" / "caps-000001-c0" / member
    if not path.exists():
        pytest.skip(f"these samples have no {member}")
    size = path.stat().st_size
    keep = {"nothing": 0, "a header": min(700, size - 9), "half": size // 2}.get(left, size - 1)
    path.write_bytes(path.read_bytes()[:keep])
    assert pano("pack", str(sandbox / "run"), "--to", str(sandbox / "out")) == 1
    said = capfd.readouterr().err
    assert "caps-000001-c0" in said and "Traceback" not in said
    assert not (sandbox / "out" / "manifest.json").exists()


@pytest.mark.parametrize("member", ["rgb.jpg", "meta.json"])
def test_a_staged_file_without_end_is_not_read(sandbox, member, capfd):
    """A sparse file of a terabyte is made in an instant."""
    os.truncate(sandbox / "run" / "staged" / "caps-000001-c0" / member, 1 << 40)
    assert pano("pack", str(sandbox / "run"), "--to", str(sandbox / "out")) == 1
    said = capfd.readouterr().err
    assert "caps-000001-c0" in said and "over the cap of 2147483648" in said


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("option", "home")])
def test_the_check_refuses(name):
    text = NAMES[name].format(sandbox="/sandbox").replace("\\ud800", "\ud800")
    for check in (check_name, check_key, check_split, check_shard):
        with pytest.raises(DataError) as told:
            check(text)
        assert "\n" not in str(told.value) and len(str(told.value)) < 500


@pytest.mark.parametrize(
    "name",
    ["a", "shards/train-000000-1a2b3c4d.tar", "images/0001 (1).jpg", "é/客.png", "a+b,c=d@e~f#1"],
)
def test_the_check_takes(name):
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["../victim/thesis.txt", "link/thesis.txt"])
def test_the_store_refuses_to_leave_its_root(sandbox, name):
    (sandbox / "dataset" / "link").symlink_to(sandbox / "victim")
    store = Store.at(sandbox / "dataset")
    before = outside(sandbox)
    folder = name.rpartition("/")[0]
    calls = {
        "put": lambda: store.put(name, b"x"),
        "put_new": lambda: store.put_new(name.replace("thesis", "new"), b"x"),
        "get": lambda: store.get(name),
        "read": lambda: store.read(name),
        "size": lambda: store.size(name),
        "get_size": lambda: store.get_size(name),
        "open": lambda: store.open(name).__enter__(),
        "delete": lambda: store.delete(name),
        "move away": lambda: store.move(name, "here"),
        "move there": lambda: store.move("manifest.json", f"{folder}/there"),
        "draft": lambda: store.draft(folder).__enter__(),
        "names": lambda: store.names(folder),
        "sizes": lambda: store.sizes(folder),
        "sweep": lambda: store.sweep(folder),
        "below": lambda: (
            store.below(folder).get("thesis.txt") if folder == ".." else store.get(name)
        ),
    }
    for call in calls.values():
        with pytest.raises(DataError):
            call()
    assert outside(sandbox) == before


@pytest.mark.parametrize("place", ["a key, everywhere", "a shard of the manifest", "a member"])
def test_training_and_evaluation_trust_none(sandbox, place, capfd):
    PLACES[place](sandbox / "dataset", NAMES["up through a key"])
    (sandbox / "out").mkdir()
    prompts = sandbox / "out" / "prompts.json"
    prompts.write_text(
        json.dumps(
            {
                "format": "panoforge-prompts",
                "schema_version": 2,
                "protocol_id": "x",
                "panoramas": {NAMES["up through a key"]: {"width": 64, "height": 32}},
            }
        )
    )
    words = ["dataset={d}", "run={o}/run"]
    geometry = str(ROOT / "configs" / "eval" / "geometry.yaml")
    verbs = {
        "eval": ["eval", geometry, *words],
        "eval with prompts": ["eval", geometry, *words, f"prompts.file={prompts}"],
        "train": ["train", str(ROOT / "configs" / "train" / "sap_tiny.yaml"), *words],
    }
    assert set(attack(sandbox, verbs, capfd).values()) <= {1, 2}


def run_of(folder: Path, **change: object) -> None:
    """A run of one scene, which failed; what `change` says is what its render.json says."""
    kitchen = RoomsSource(source="infinigen2.rooms", rooms=("kitchen",))
    job = RenderJobConfig(run=folder, sources=(kitchen,), scenes=1)
    scene = plan_scene(job.render, 0).key
    ledger = Ledger(job.ledger_url)
    ledger.declare("a" * 64, {})
    for outcome in ("fault", "quarantined"):
        ledger.write(
            AttemptRecord(
                id=new_id(0, 1),
                index=0,
                scene=scene,
                attempt=1,
                outcome=outcome,
                fault=AttemptFault.CRASH,
                reason="crash",
                job_sha256="a" * 64,
                started_unix_s=1.0,
                log="../../victim/thesis.txt",
            )
        )
    save_job(job)
    path = folder / "render.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def linked(run: Path, name: str, to: Path) -> None:
    shutil.rmtree(run / name, ignore_errors=True)
    (run / name).symlink_to(to)


def log_linked(run: Path, to: Path) -> None:
    """Its scene's log is a link."""
    (run / "logs").mkdir(exist_ok=True)
    name = AttemptRecord.model_validate_json(
        next((run / "ledger" / "attempts").rglob("*.json")).read_bytes()
    ).scene
    (run / "logs" / f"{name}.log").symlink_to(to)


RUNS = {
    "another run's ledger": lambda r, v: run_of(r, ledger=str(v / "ledger")),
    "a relative ledger": lambda r, v: run_of(r, ledger="../victim/ledger"),
    "another run's folder": lambda r, v: run_of(r, run=str(v)),
    "a ledger that is a link": lambda r, v: (run_of(r), linked(r, "ledger", v / "ledger")),
    "a page that is a link": lambda r, v: (run_of(r), linked(r, "status.html", v / "thesis.txt")),
    "a log that is a link": lambda r, v: (run_of(r), log_linked(r, v / "thesis.txt")),
    "logs/ that is a link": lambda r, v: (
        run_of(r),
        log_linked(v, v / "thesis.txt"),
        linked(r, "logs", v / "logs"),
    ),
    "a worker of theirs": lambda r, v: run_of(r, worker="antigravity"),
}


@pytest.mark.parametrize("place", RUNS)
def test_a_run_that_others_made_touches_nothing_outside(sandbox, place, capfd, monkeypatch):
    monkeypatch.chdir(sandbox / "run")
    victim, config = sandbox / "victim", sandbox / "mine.yaml"
    run_of(victim)
    config.write_text("run: mine\nsources: [{source: infinigen2.rooms, rooms: [kitchen]}]\n")
    RUNS[place](sandbox / "run", victim)

    def theirs() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in victim.rglob("*") if p.is_file()}

    before = theirs()
    places = {"r": sandbox / "run", "o": sandbox / "out", "c": config}
    for verb, words in RUN_VERBS.items():
        if verb == "verify rays":  # renders; nothing of it is written but in a scratch folder
            continue
        code = pano(*(word.format(**places) for word in words))
        said = capfd.readouterr()
        assert "Traceback" not in said.err + said.out, verb
        assert theirs() == before, verb
        assert "three years of work" not in said.out + said.err, verb
        # No scene was ever done, which plan says.
        refused = {
            "plan": 1,
            "retry": 2 if "ledger" in place else 0,
            "logs": int("log " in place or "logs/" in place),
        }
        assert code == refused.get(verb, 0), (verb, said.err)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("home", "option")])
@pytest.mark.parametrize("field", ["id", "scene", "panoramas"])
def test_records_with_hostile_names_are_not_believed(tmp_path, field, name):
    good = {
        "id": "00000000-001-0123456789ab",
        "index": 0,
        "scene": "caps-000000",
        "attempt": 1,
        "outcome": "done",
        "panoramas": ["caps-000000-c0"],
        "job_sha256": "a" * 64,
        "started_unix_s": 1.0,
    }
    ledger = Ledger(str(tmp_path))
    ledger.store.put("attempts/good.json", json.dumps(good).encode())
    assert len(ledger.records()) == 1
    text = NAMES[name].format(sandbox="/sandbox")
    bad = good | {field: [text] if field == "panoramas" else text}
    ledger.store.put("attempts/good.json", json.dumps(bad).encode())
    assert ledger.records() == []
