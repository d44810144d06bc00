"""The readers and evaluators of other people's formats, each in a folder of its own.

Their requirements would change our versions, so they are no part of the environment. They lie below
the folder that PANOFORGE_TOOLKITS names, else below `.toolkits`, which `make toolkits` fills with
those that PyPI has. A test that needs one asks `toolkit`, which skips with the reason.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import panoforge

ROOT = Path(__file__).parents[1]


def toolkit(name: str, *needs: str) -> Path:
    """The checkout of a toolkit; skips where it, or a module that it needs, is missing."""
    if not has(name):
        pytest.skip(
            f"needs {name}: `make toolkits` brings what PyPI has, PANOFORGE_TOOLKITS names another"
            " folder"
        )
    for module in needs:
        pytest.importorskip(module)
    return _folder() / name


def has(name: str) -> bool:
    """Whether a toolkit is there, for a test that has more to ask."""
    return (_folder() / name).is_dir()


def _folder() -> Path:
    return Path(os.environ.get("PANOFORGE_TOOLKITS") or ROOT / ".toolkits")


def python(toolkit_path: Path, code: str, *arguments: object) -> str:
    """Run `code` with a toolkit on its path, as its users do; what it printed.

    Our own root is not on it: 360VOT has a folder `eval`, as we do.
    """
    own = {str(Path(panoforge.__file__).parents[1]), ""}
    others = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p not in own]
    path = os.pathsep.join([str(toolkit_path), *others])
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=toolkit_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


# What LabelMe's application draws and predicts with is imported by its reader and not used by it.
_LABELME = """
import sys, types
import numpy as np
for name in ("onnxruntime", "PyQt5"):
    sys.modules[name] = types.ModuleType(name)
for part in ("QtCore", "QtGui", "QtWidgets"):
    setattr(sys.modules["PyQt5"], part, types.ModuleType(part))
from labelme._label_file import read_label_file
width, height = int(sys.argv[3]), int(sys.argv[4])
labels, masks = [], []
for shape in read_label_file(sys.argv[1]).shapes:
    mask = np.zeros((height, width), bool)
    (x0, y0), (x1, y1) = np.array(shape["points"]).astype(int)
    mask[y0 : y1 + 1, x0 : x1 + 1] = shape["mask"]
    labels.append(shape["label"])
    masks.append(mask)
np.savez_compressed(sys.argv[2], labels=np.array(labels, str), masks=np.array(masks))
"""


def labelme_reads(path: Path, width: int, height: int) -> list[tuple[str, np.ndarray]]:
    """The masks of a file as LabelMe itself reads it: (label, bool H×W) of each shape.

    Its picture must lie beside it; skips where LabelMe is missing.
    """
    found = path.with_suffix(".npz")
    python(toolkit("labelme"), _LABELME, path, found, width, height)
    with np.load(found) as read:
        return list(zip(read["labels"].tolist(), read["masks"], strict=True))
