"""What people expect of any command: help at once, one rule for exit codes, texts as they are
typed, and no traceback.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import synthetic
from repository import ROOT

from panoforge.cli import app as cli
from panoforge.cli import main
from panoforge.cli.configs import EXAMPLES
from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.config.sections import SECTIONS, VERBS, sections_of
from panoforge.cluster.state.job_file import save_job
from panoforge.cluster.state.ledger import AttemptRecord, Ledger, new_id
from panoforge.core import progress
from panoforge.core.config.explain import explained
from panoforge.core.numbers import counted
from panoforge.core.progress import Progress
from panoforge.datagen.config.render import RoomsSource, plan_scene

HEAVY = {
    "annotated_types", "cv2", "fsspec", "jaxtyping", "matplotlib", "numpy", "omegaconf", "pandas",
    "psutil", "pyarrow", "pydantic", "ray", "torch", "yaml",
}  # fmt: skip


def all_verbs() -> list[str]:
    return [info.name or info.callback.__name__ for info in cli.app.registered_commands]


def test_help_loads_nothing_heavy():
    """A clock says little on a busy machine: what is imported is what the time goes to."""
    script = (
        "import sys\nfrom panoforge.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = ended.stderr.split()
    assert not HEAVY & {name.partition(".")[0] for name in loaded}
    assert len(loaded) < 350
    assert not {"rich.markdown", "rich.syntax", "pygments"} & set(loaded)  # half of the time


def test_every_verb_has_help_with_an_example_of_its_own_and_words_for_every_option(pano):
    for verb in all_verbs():
        code, stdout, _ = pano(verb, "-h")
        assert code == 0 and f"Example: pano {verb}" in stdout, verb
        assert pano(verb, "--help")[1] == stdout
    for info in cli.app.registered_commands:
        for name, hint in info.callback.__annotations__.items():
            for option in getattr(hint, "__metadata__", ()):
                assert option.help, f"{info.callback.__name__}: {name} has no help"


def test_help_is_in_paragraphs_not_in_the_lines_of_the_source(pano, monkeypatch):
    assert "of a run again and compare rendered ids with independently cast rays." in (
        " ".join(pano("verify", "-h")[1].split())
    )
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.strip() for line in pano("verify", "-h")[1].splitlines()]
    assert "rendered ids with independently cast rays." not in lines  # the source's last line
    assert "again and compare rendered ids with independently cast rays." in lines


def test_the_command_alone_and_its_version(pano):
    code, stdout, stderr = pano()
    assert code == 0 and "Usage: pano" in stdout and stderr == ""
    assert pano("--version") == (0, "panoforge 0.2.0\n", "")
    assert "--install-completion" in pano("-h")[1]
    code, _, stderr = pano("rendr")
    assert code == 2 and "Did you mean 'render'" in stderr and "See pano -h" in stderr
    code, _, stderr = pano("render")
    assert code == 2 and stderr == "error: Missing argument 'CONFIG'. See pano render -h\n"


def test_quiet_leaves_results_and_errors(pano, caps_dataset, monkeypatch):
    monkeypatch.setattr(progress, "_quiet", False)
    assert "verify: 8/8" in pano("verify", caps_dataset)[2]
    assert pano("verify", caps_dataset, "-q") == (0, "8 samples, 0 faults\n", "")
    code, _, stderr = pano("-q", "verify", caps_dataset / "nothing")
    assert code == 1 and stderr.startswith("error: ")


def test_an_unexpected_error_is_one_line_and_a_file(pano, tmp_path, monkeypatch):
    def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("panoforge.stages.verify_stage", crash)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    code, stdout, stderr = pano("verify", "x")
    assert (code, stdout, len(stderr.splitlines())) == (1, "", 1)
    (log,) = (tmp_path / "panoforge").iterdir()
    assert (
        f"ZeroDivisionError: two. This is a fault of panoforge: the traceback is in {log}" in stderr
    )
    text = log.read_text()
    assert "pano " in text and "Traceback (most recent call last)" in text and "in crash" in text
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")  # then the temporary folder
    assert "the traceback is in " in pano("verify", "x")[2]


@pytest.mark.parametrize("package", ["torch", "sam2"])
def test_an_extra_that_is_missing_is_named(pano, caps_dataset, tmp_path, package):
    """A render node has no torch: `pano train` there says what to install."""
    script = (
        f"import sys\nsys.modules[{package!r}] = None\nfrom panoforge.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    small = ["steps=1", "model.size=micro", "model.image_size=128", "clip.frames=2"]
    arguments = [ROOT / "configs/demo.yaml", f"run={tmp_path}", f"dataset={caps_dataset}", *small]
    ended = subprocess.run(
        [sys.executable, "-c", script, "-q", "train", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        1,
        f"error: {package} is not installed here, and this needs it: pip install"
        " 'panoforge[train]'. What was done before stays",
    )


def test_verbose_shows_the_traceback_too(tmp_path):
    script = (
        "import sys, panoforge.stages\nfrom panoforge.cli import main\n"
        "panoforge.stages.verify_stage = lambda *a, **b: 1 / 0\nmain(sys.argv[1:])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, "verify", "x", "--verbose"],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        check=False,
    )
    assert ended.returncode == 1 and "Traceback" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: ZeroDivisionError")


MISSING_DATA = [
    ("verify", "{missing}"),
    ("stats", "{missing}", "--out", "{out}"),
    ("query", "{missing}", "sr > 0"),
    ("export", "{missing}", "{out}", "--to", "coco"),
    ("card", "{missing}", "--name", "x", "--license", "mit"),
    ("repair", "{missing}"),
    ("pack", "{missing}"),
    ("verify", "{missing}", "--rays", "10"),
    ("status", "{missing}"),
    ("logs", "{missing}", "0"),
    ("retry", "{missing}"),
    ("plan", "{render}", "--from", "{missing}"),
    ("train", "{train}", "dataset={missing}"),
    ("eval", "{eval}", "dataset={missing}"),
    ("compare", "{missing}"),
    ("eval", "{missing}", "--compare"),
    ("segment", "{missing}.jpg", "--click", "0,0", "--predictor", "truth"),
    ("predict", "{missing}.jpg", "--checkpoint", "{missing}.pt"),
    ("predict", "{picture}", "--checkpoint", "{missing}.pt"),
    ("serve", "{missing}.jpg", "--predictor", "truth"),
    ("serve", "{render}"),
]
WRONG_WORDS = [
    ("render", "{missing}"),
    ("plan", "{missing}"),
    ("train", "{missing}"),
    ("eval", "{missing}"),
    ("config", "{missing}"),
    ("demo", "{missing}"),
    ("submit", "train", "{missing}"),
    ("submit", "stats", "{train}"),
    ("render", "{render}", "scens=3"),
    ("train", "{train}", "model.sise=tiny"),
    ("eval", "{eval}", "workers=0"),
    ("pack", "x", "shard_byte=3"),
    ("config", "{chain}", "rendr.samples=3"),
    ("config", "{chain}", "scenes=4"),
    ("demo", "{chain}", "scenes=4"),
    ("segment", "x.jpg", "model.size=tiny"),
    ("segment", "{picture}", "--click", "0,0", "methods=[direct]"),
    ("segment", "{picture}", "--click", "0,0", "max_panoramas=3"),
    ("segment", "{picture}", "--click", "0,0", "--model", "tiny", "model.size=large"),
    ("predict", "{picture}"),
    ("eval", "{eval}", "task=dense", "methods=[direct]"),
    ("eval", "{eval}", "dense.classes=nyu"),
    ("serve", "model.sise=tiny", "--predictor", "truth"),
    ("export", "x", "y", "--to"),
    ("export", "{dataset}", "{out}", "--to", "cocco"),
    ("export", "{dataset}", "{out}", "--to", "coco", "--min-iou", "0.5"),
    ("export", "{dataset}", "{out}", "--to", "hf"),
    ("export", "{dataset}", "{dataset}", "--to", "coco"),
    ("compare", "{missing}", "--format", "tex"),
    ("status",),
    ("init", "rendr"),
    ("verify", "~nobody-here/x"),
]


@pytest.fixture(scope="module")
def words(tmp_path_factory, caps_dataset) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("words")
    for verb in ("render", "train", "eval"):
        (folder / f"{verb}.yaml").write_text(f"run: {folder}/run\n")
    cv2.imwrite(str(folder / "picture.jpg"), np.full((64, 128, 3), 99, np.uint8))
    return {
        "picture": str(folder / "picture.jpg"),
        "missing": str(folder / "missing"),
        "dataset": str(caps_dataset),
        "out": str(folder / "out"),
        "chain": str(ROOT / "configs" / "demo.yaml"),
        **{verb: str(folder / f"{verb}.yaml") for verb in ("render", "train", "eval")},
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [*((line, 1) for line in MISSING_DATA), *((line, 2) for line in WRONG_WORDS)],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_the_same_fault_has_the_same_code_in_every_verb(pano, words, arguments, expected):
    code, stdout, stderr = pano(*(word.format(**words) for word in arguments))
    last = stderr.splitlines()[-1]
    assert (code, stdout) == (expected, ""), stderr
    assert last.startswith("error: ") and len(last) > 20
    assert not re.search(r"\d+/\d+ in \d+ s", stderr)  # nothing has begun


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("compare", "x", "--format", "tex"), "latex"),
        (("compare", "x", "--format", "txt"), "text"),
        (("compare", "x", "--format", "markdown"), "md"),
        (("compare", "x", "--format", "jsn"), "json"),
        (("export", "{dataset}", "new", "--to", "panoptic"), "mask2former-panoptic"),
        (("export", "{dataset}", "new", "--to", "yolo"), "yolo-seg"),
    ],
)
def test_what_was_meant_is_suggested(pano, caps_dataset, words, meant):
    code, _, stderr = pano(*(word.format(dataset=caps_dataset) for word in words))
    assert code == 2 and f"Did you mean {meant!r}?" in stderr


@pytest.mark.parametrize("name", ["a [/b] c", ":x: [red]", "set #2", "[ck]", "a=b é 客"])
def test_folders_with_any_name_in_every_verb(pano, tmp_path, name):
    run = tmp_path / name
    synthetic.dataset(run, scenes=1, cameras=1, width=128, n_caps=4)
    dataset = run / "dataset"
    for arguments in (
        ("pack", run),
        ("verify", dataset),
        ("repair", dataset),
        ("stats", dataset, "--out", run / "stats"),
        ("query", dataset, "sr > 0", "--extract", run / "x"),
        ("export", dataset, run / "coco", "--to", "coco"),
        ("card", dataset, "--name", name, "--license", "cc-by-4.0"),
    ):
        code, stdout, stderr = pano(*arguments)
        assert code == 0, stderr
        if arguments[0] in ("pack", "stats", "export", "card"):
            assert str(run) in stdout, arguments


def test_paths_on_the_command_line_are_what_was_typed(pano, tmp_path, monkeypatch):
    for key, value in [("root", "set #2"), ("model.checkpoint", "[ck]/m.pt"), ("run", "a: b")]:
        (tmp_path / "eval.yaml").write_text("run: r\nmethods: [direct]\n")
        code, stdout, _ = pano("config", tmp_path / "eval.yaml", f"{key}={value}")
        assert code == 0
        (tmp_path / "again.yaml").write_text(stdout)
        ((_, job),) = sections_of(tmp_path / "again.yaml", [])
        found = {
            "root": job.eval.root,
            "run": job.run,
            "model.checkpoint": job.eval.model.checkpoint,
        }
        assert found[key] == Path(value)
    for checkpoint in ("ck #1/m.pt", "[ck]/m.pt"):
        monkeypatch.chdir(tmp_path)
        synthetic.dataset(tmp_path / "run", scenes=1, cameras=1, width=128)
        code, _, stderr = pano("eval", "eval.yaml", "run=run", "--checkpoint", checkpoint)
        assert code == 1 and f"{checkpoint}: it does not exist" in stderr


def test_home_is_expanded_once_in_every_verb(pano, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    synthetic.dataset(tmp_path / "home" / "x", scenes=1, cameras=1, width=128)
    assert pano("verify", "~/x/dataset")[0] == 0
    assert pano("pack", "~/x", "--to", "~/y")[0] == 0
    assert pano("stats", "~/y", "--out", "~/stats")[0] == 0
    assert pano("export", "~/y", "~/coco", "--to", "coco")[0] == 0
    assert pano("query", "~/y", "sr > 0", "--extract", "~/cut")[0] == 0
    assert {p.name for p in (tmp_path / "home").iterdir()} == {"x", "y", "stats", "coco", "cut"}
    (tmp_path / "eval.yaml").write_text(
        "run: ~/e\ndataset: ~/y\npredictor: ground_truth\nmethods: [direct]\nreport_panoramas: 0\n"
        "model: {size: tiny, image_size: 64}\n"
    )
    assert pano("eval", "~/../eval.yaml")[0] == 0
    assert (tmp_path / "home" / "e" / "run.json").is_file()
    assert not list(tmp_path.rglob("~"))


def test_a_fresh_demo_deletes_runs_only(pano, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis.txt").write_text("years")
    code, _, stderr = pano("demo", "--fresh", f"run={victim}")
    assert code == 1 and "is none: expected render.json there" in stderr
    assert (victim / "thesis.txt").read_text() == "years" and len(list(victim.iterdir())) == 1


def test_masks_of_random_weights_are_said(pano, tmp_path):
    synthetic.dataset(tmp_path, scenes=1, cameras=1, width=128)
    picture = next((tmp_path / "staged").rglob("rgb.jpg"))
    words = ("model.checkpoint=random", "model.size=micro", "model.image_size=64", "device=cpu")
    code, _, stderr = pano("segment", picture, "--click", "0,0", "--out", tmp_path / "out", *words)
    assert code == 0 and "these are masks of random weights" in stderr


def test_random_weights_are_said_first(pano, tmp_path):
    synthetic.dataset(tmp_path, scenes=1, cameras=1, width=128)
    config = tmp_path / "eval.yaml"
    config.write_text(
        f"run: {tmp_path}\nmethods: [direct]\n"
        "model: {size: micro, image_size: 64, checkpoint: random}\n"
        "instances: {max_per_panorama: 1}\nreport_panoramas: 0\ndevice: cpu\n"
    )
    _, _, stderr = pano("eval", config)
    assert stderr.splitlines()[0].startswith("warning: these are scores of")
    assert "random weights" in stderr.splitlines()[0]


@pytest.mark.parametrize("kind", [*SECTIONS, "chain"])
def test_init_writes_a_config_that_loads_as_the_defaults(pano, tmp_path, kind):
    path = tmp_path / "mine.yaml"
    assert pano("init", kind, path)[:2] == (0, f"{path}\n")
    found = dict(sections_of(path, []))
    assert set(found) == (set(VERBS) if kind == "chain" else {kind})
    for name, config in found.items():
        run = {"run": f"runs/{kind}"} if "run" in type(config).model_fields else {}
        assert config == SECTIONS[name].model_validate({**run, **EXAMPLES.get(name, {})})
    text = path.read_text()
    has_run = kind == "chain" or "run" in SECTIONS[kind].model_fields
    assert len(re.findall(r"^ *run: ", text, re.M)) == has_run
    said = " ".join(text.replace("#", " ").split())
    for line in (line for name in found for line in explained(SECTIONS[name])):
        if "." not in line.key and (kind != "chain" or line.key != "run"):
            assert line.about in said
    if kind == "chain":  # one key moves the run of every stage
        moved = [config for _, config in sections_of(path, ["run=runs/mine"])]
        assert {str(c.run) for c in moved if hasattr(c, "run")} == {"runs/mine"}
    code, _, stderr = pano("init", kind, path)
    assert code == 2 and "exists and is left as it is" in stderr


def test_keys_are_explained(pano):
    code, stdout, stderr = pano("config", "--explain", "optim.lr", "sources.0.plants")
    assert (code, stderr) == (0, "")
    assert stdout.splitlines()[::2] == [
        "train.optim.lr: number over 0, default 5.0e-06",
        "render.sources.N.plants (infinigen2.outdoor): whole number at least 0, at most 500,"
        " default 60",
    ]
    code, stdout, _ = pano("config", "--explain")
    assert code == 0 and {line.partition(".")[0] for line in stdout.splitlines()[::2]} == {
        *SECTIONS
    }
    assert pano("config")[0] == 2


OURS = [
    path.relative_to(ROOT / "configs")
    for path in sorted((ROOT / "configs").rglob("*.yaml"))
    if path.name not in ("categories.yaml", "vocabulary.yaml")  # no configs of verbs
    and path.parent.name != "cluster"
]


@pytest.mark.parametrize("ours", OURS, ids=str)
def test_every_config_of_ours_loads_as_what_its_folder_says(pano, tmp_path, ours):
    code, stdout, stderr = pano("config", ROOT / "configs" / ours)
    assert (code, stderr) == (0, "")
    (tmp_path / "printed.yaml").write_text(stdout)
    sections = dict(sections_of(tmp_path / "printed.yaml", []))
    assert sections == dict(sections_of(ROOT / "configs" / ours, []))
    assert {"label": "pseudolabel", "gallery": "render"}.get(
        ours.parent.name, ours.parent.name
    ) in ("", *sections)
    assert len(sections) == 1 or not ours.parent.name


def test_one_is_singular():
    assert (counted(1, "scene"), counted(2, "scene"), counted(0, "scene")) == (
        "1 scene",
        "2 scenes",
        "0 scenes",
    )


@pytest.mark.parametrize("every_s", [0.0, 60.0])
def test_the_last_line_of_progress_comes_once(capsys, every_s):
    with Progress("render", total=2, every_s=every_s) as bar:
        bar.advance()
        bar.advance()
    with Progress("eval", total=3, already=3):
        pass
    lines = capsys.readouterr().err.splitlines()
    assert sum("render: 2/2" in line for line in lines) == 1
    assert sum("eval: 3/3" in line for line in lines) == 1


def test_a_terminal_obeys_no_stranger(pano, tmp_path):
    """Escapes of a log and of a name are written out, never sent."""
    screen = "\x1b[2J\x1b]0;mine\x07"
    sources = (RoomsSource(source="infinigen2.rooms", rooms=("kitchen",)),)
    job = RenderJobConfig(run=tmp_path, sources=sources, scenes=1)
    save_job(job)
    Ledger(job.ledger_url).declare("a" * 64, {})
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / f"{plan_scene(job.render, 0).key}.log"
    log.write_bytes(f"first\r\n{screen}\u202elast\n".encode())
    Ledger(job.ledger_url).write(
        AttemptRecord(
            id=new_id(0, 1),
            index=0,
            scene=log.stem,
            attempt=1,
            outcome="quarantined",
            reason=f"crash {screen}",
            job_sha256="a" * 64,
            started_unix_s=1.0,
        )
    )
    for verb in (["logs", tmp_path, "0"], ["status", tmp_path], ["status", f"no{screen}where"]):
        _, stdout, stderr = pano(*verb)
        assert "\x1b" not in stdout + stderr and "\\x1b[2J" in stdout + stderr, verb
    assert "first\n\\x1b[2J\\x1b]0;mine\\x07\\u202elast\n" in pano("logs", tmp_path, "0")[1]


def test_a_render_with_failed_scenes_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    """None was made, and that is what it says."""
    counts = {"done": 0, "rejected": 0, "failed": 2}
    summary = SimpleNamespace(
        reasons={"failed: no such file": 2},
        panoramas=0,
        made_now=2,
        interrupted=False,
        count=counts.__getitem__,
    )
    monkeypatch.setattr("panoforge.stages.render_stage", lambda job: summary)
    (tmp_path / "r.yaml").write_text(f"run: {tmp_path / 'run'}\nscenes: 2\n")
    with pytest.raises(SystemExit) as stopped:
        main(["render", str(tmp_path / "r.yaml")])
    said = capsys.readouterr()
    assert stopped.value.code == 1 and "(2 scenes settled now, 0 rejected, 2 failed)" in said.out
    assert f"pano retry {tmp_path / 'run'}" in said.err and "pano logs" in said.err


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (("serve", "--port", "99999"), 2, "--port"),  # it took another port without a word
        (("verify", "x", "--rays", "-5"), 2, "--rays"),
        (("export", "x", "new", "--to", "coco", "--workers", "0"), 2, "--workers"),
        (("pack", "nothere"), 1, "expected the panoramas of a run there"),
        (("annotate", "walk.mp4"), 2, "pano serve"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_is_out_of_place_is_named_with_the_way_out(
    pano, tmp_path, monkeypatch, line, code, said
):
    monkeypatch.chdir(tmp_path)
    found, stdout, stderr = pano(*line)
    assert (found, stdout) == (code, "") and said in stderr, stderr
    assert stderr.startswith("error: ") and len(stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())  # nothing was begun
