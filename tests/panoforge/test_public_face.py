"""`import panoforge`: what it offers, that it says how, and that the examples are true."""

import doctest
import inspect
import os
import pydoc
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
import torch
from repository import ROOT

import panoforge
from panoforge.core.errors import ConfigError, DataError, StorageError, UsageError
from panoforge.core.shards.read import Dataset
from panoforge.eval.config import EvalConfig
from panoforge.eval.predictors.load import load_model
from panoforge.train.model.checkpoint_export import export_official
from panoforge.train.model.mtpano.build import build_mtpano, describe
from panoforge.train.settings.mtpano import MtpanoSettings

EVAL = """
predictor: ground_truth
methods: [{method}]
model: {{size: tiny, image_size: 64}}
instances: {{max_per_panorama: 2}}
dataset: runs/demo/dataset
run: runs/{method}
"""
RENDER = """
sources: [{source: infinigen2.rooms}]
cameras_per_scene: 1
width: 64
height: 32
worker: chaos_worker
run: runs/room
"""
SELF = ("self", "cls")
FACE = [name for name in panoforge.__all__ if name not in ("__version__", "METRICS")]


@pytest.fixture(scope="module")
def desk(caps_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples find: a dataset, a picture, a checkpoint, configs, evaluations."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "runs/demo").mkdir(parents=True)
    shutil.copytree(caps_dataset, folder / "runs/demo/dataset")
    (folder / "room.jpg").write_bytes(Dataset.open(caps_dataset)[0].members["rgb.jpg"])
    (folder / "room.yaml").write_text(RENDER)
    torch.set_num_threads(1)
    config = EvalConfig.model_validate({"model": {"size": "tiny", "image_size": 64}})
    export_official(folder / "sam2.pt", load_model(config).model.state_dict(), step=0)
    small = {"patch_px": 8, "width": 24, "depth": 4, "heads": 2}
    dense = MtpanoSettings.model_validate(
        {"backbone": small, "height_px": 32, "channels": 16, "classes": "nyu40"}
    )
    model, _ = build_mtpano(dense, 40)
    export_official(folder / "dense.pt", model.state_dict(), 0, describe(model))
    for method in ("scan", "direct"):
        (folder / f"{method}.yaml").write_text(EVAL.format(method=method))
    return folder


@pytest.fixture(scope="module")
def scored(desk: Path) -> Path:
    """The same, with both methods scored."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        for method in ("scan", "direct"):
            panoforge.evaluate(f"{method}.yaml", "max_panoramas=1")
    return desk


def documented() -> dict[str, Any]:
    """Everything public that a docstring is due: the face, and the methods of its classes."""
    found = {}
    for name in FACE:
        thing = getattr(panoforge, name)
        found[name] = thing
        if inspect.isclass(thing):
            found |= {
                f"{name}.{attribute}": value
                for attribute, value in vars(thing).items()
                if isinstance(value, FunctionType | classmethod | property | cached_property)
                and not attribute.startswith("_")
            }
    return found


def test_the_face_is_lazy() -> None:
    code = (
        "import sys, panoforge; loaded = set(sys.modules); dir(panoforge);"
        " print([name for name in ('numpy', 'torch', 'pyarrow', 'cv2', 'ray') if name in loaded]);"
        " panoforge.View; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]


def test_names_are_those_promised_and_unknown_ones_are_refused() -> None:
    assert set(panoforge.__all__) <= set(dir(panoforge))
    assert set(panoforge.__all__) == {*panoforge._HOMES, "__version__"}
    assert all(getattr(panoforge, name) is not None for name in panoforge.__all__)
    with pytest.raises(AttributeError, match="open_datset"):
        _ = panoforge.open_datset  # type: ignore[attr-defined]


def test_help_begins_with_a_table_of_contents() -> None:
    text = pydoc.plain(pydoc.render_doc(panoforge))
    contents = text.split("PACKAGE CONTENTS")[0]
    for name in panoforge.__all__[:-1]:
        if name != "__version__":
            assert re.search(rf"^ +{name}  +\S", contents, re.M), name


@pytest.mark.parametrize("name", documented())
def test_what_is_public_is_documented(name: str) -> None:
    """A summary line, what it takes, gives and raises; an example of all but methods."""
    assert not undocumented(name, documented()[name])


def undocumented(name: str, thing: Any) -> list[str]:
    """What the docstring of a public thing lacks."""
    text = inspect.getdoc(thing) or ""
    summary = text.split("\n")[0]
    wanted = [] if "." in name else ["Example:"]
    function = thing.__func__ if isinstance(thing, classmethod) else thing
    if isinstance(thing, cached_property):
        function = thing.func
    elif isinstance(thing, property):
        function = thing.fget
    if isinstance(thing, FunctionType | classmethod):  # a property says in its summary what it is
        arguments = [one for one in inspect.signature(function).parameters if one not in SELF]
        wanted += ["Args:"] * bool(arguments) + ["Returns:"] + ["Raises:"] * ("." not in name)
        wanted += [rf" +\*?{argument}: " for argument in arguments]
    if isinstance(function, FunctionType):
        raised = re.findall(r"\braise (\w+)\(", inspect.getsource(function))
        wanted += [f" +{error}: " for error in raised]
    good = 0 < len(summary) <= 100 and summary.endswith(".")
    lacking = [one for one in wanted if not re.search(f"^{one}", text, re.M)]
    return lacking if good else [summary, *lacking]


class _Bare:
    def mean(self, values: list[float]) -> float:
        """The mean."""
        if not values:
            raise ValueError("nothing")
        return sum(values) / len(values)

    @property
    def size(self) -> int:
        return 0


def test_a_bare_docstring_is_found() -> None:
    lacking = ["Args:", "Returns:", r" +\*?values: ", " +ValueError: "]
    assert undocumented("Bare.mean", _Bare.mean) == lacking
    assert undocumented("mean", _Bare.mean) == ["Example:", *lacking[:2], "Raises:", *lacking[2:]]
    assert undocumented("Bare.size", _Bare.size) == [""]


MISTAKES: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "no dataset": (lambda: panoforge.open_dataset("runs/nothing"), StorageError, "runs/nothing"),
    "no split": (lambda: panoforge.open_dataset("runs/demo/dataset", "tset"), UsageError, "train"),
    "no file": (lambda: panoforge.load_panorama("nothing.jpg"), DataError, "nothing.jpg"),
    "no panorama": (
        lambda: panoforge.predict(np.zeros((8, 8, 3), np.uint8), "dense.pt"),
        DataError,
        "8",
    ),
    "no dense model": (lambda: panoforge.predict("room.jpg", "sam2.pt"), DataError, "sam2.pt"),
    "no picture": (lambda: panoforge.load_panorama("sam2.pt"), DataError, "sam2.pt"),
    "no view": (lambda: panoforge.scan_views(overlap=1.5), ValueError, "overlap"),
    "odd width": (
        lambda: panoforge.sample_view(np.zeros((5, 9)), panoforge.View(0, 0, 90, 8)),
        ValueError,
        "width",
    ),
    "no metric": (lambda: panoforge.metric("iuo"), UsageError, "'iou'"),
    "no method": (
        lambda: panoforge.Segmenter("room.jpg", "sam2.pt", method="scna"),
        ConfigError,
        "methods.*'scna'",
    ),
    "no checkpoint": (
        lambda: panoforge.Segmenter("room.jpg", "room.jpg", size="tiny"),
        DataError,
        "room.jpg",
    ),
    "lost checkpoint": (
        lambda: panoforge.Segmenter("room.jpg", "nothing.pt", size="tiny"),
        StorageError,
        "nothing.pt",
    ),
    "no key": (lambda: panoforge.evaluate("scan.yaml", "metods=[scan]"), ConfigError, "methods"),
    "no result": (lambda: panoforge.compare("runs/demo"), StorageError, "runs/demo"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_raise_what_the_docstrings_promise(
    desk: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    call, error, said = MISTAKES[mistake]
    monkeypatch.chdir(desk)
    with pytest.raises(error, match=said):
        call()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.ray) if name == "render" else name for name in FACE],
)
def test_its_example_is_true(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(request.getfixturevalue("scored" if name == "compare" else "desk"))
    if name == "render":  # Ray and its workers for real, the scene synthetic
        monkeypatch.setenv(
            "PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests/cluster")))
        )
        monkeypatch.setenv("CHAOS", str(tmp_path))
    examples = [
        test
        for test in doctest.DocTestFinder().find(getattr(panoforge, name), name)
        if test.examples
    ]
    assert examples, f"{name} has no example"
    for test in examples:
        said: list[str] = []
        failed, _ = doctest.DocTestRunner().run(test, out=said.append)
        assert not failed, "".join(said)


def test_a_folder_with_a_train_and_an_eval_of_its_own_is_left_alone(tmp_path: Path) -> None:
    """A stranger's script beside his own train.py and eval.py: he gets his, we get ours."""
    for name in ("train", "eval", "core", "cluster", "datagen", "pano"):
        (tmp_path / f"{name}.py").write_text("HIS = True\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import eval as his_eval, train as his_train\n"
        "import panoforge, panoforge.eval.config, panoforge.train.config\n"
        "assert his_eval.HIS and his_train.HIS\n"
        "print(len(panoforge.scan_views()))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for command in ([str(script)], ["-m", "panoforge", "config", str(ROOT / "configs/demo.yaml")]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_python_m_panoforge_is_the_command() -> None:
    pano = [str(Path(sys.executable).parent / "pano")]
    module = [sys.executable, "-m", "panoforge"]
    for arguments in (["--version"], ["config", "configs/demo.yaml"], ["compare"]):
        first, second = (
            subprocess.run(
                [*command, *arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=False,
            )
            for command in (pano, module)
        )
        assert (first.returncode, first.stdout) == (second.returncode, second.stdout)
