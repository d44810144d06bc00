"""Imports inside functions: the list of those that may be, and why.

One row: who imports (a module or a package), what (likewise), the reason. A row is there to keep a
verb light, or because a process must set something up first; everything else stands at the top.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

Row = tuple[str, str, str]
REASONS: tuple[Row, ...] = (
    ("panoforge.api", "panoforge", "a notebook that reads a dataset waits for no torch"),
    ("panoforge.cli", "panoforge", "`pano --help` loads no verb's stage; a verb loads its own"),
    ("panoforge.stages", "panoforge", "every verb imports it; only the stage that runs is loaded"),
    ("panoforge.doctor", "panoforge", "a check that fails must not take the others with it"),
    ("panoforge.doctor", "torch", "a package that is missing or broken is what it reports"),
    ("panoforge.doctor", "torchvision", "a package that is missing or broken is what it reports"),
    ("panoforge.doctor", "ray", "a package that is missing or broken is what it reports"),
    ("panoforge.core.foreign.videos", "av", "FFmpeg's libraries: only where a video is opened"),
    ("panoforge.cluster", "ray", "configs, plans and status are read without Ray, which takes 1 s"),
    ("panoforge.cluster.ray.training", "panoforge.cluster.ray.trainer", "it imports Ray"),
    ("panoforge.datagen.worker", "panoforge.datagen.pipeline", "tests and parents have no bpy"),
    ("panoforge.datagen.verify.verify_rays", "panoforge.datagen", "its report is read without bpy"),
    ("panoforge.datagen.cost.speed_probe", "panoforge.datagen", "its parent has no bpy"),
    ("panoforge.datagen", "bpy", "requests, results and reports are read without it"),
    ("panoforge.datagen", "addon_utils", "there only inside a Blender with its add-ons"),
    (
        "panoforge.datagen.infinigen1.run_generator",
        "infinigen",
        "only where an extension is missing, after Blender is up",
    ),
    ("panoforge.datagen", "bmesh", "there only once Blender is up"),
    ("panoforge.datagen", "infinigen2", "30 s of generators: only the source that is asked for"),
    ("panoforge.datagen", "procfunc", "part of infinigen2's generators"),
    ("panoforge.train.rank", "panoforge.train", "what can be refused is refused before torch"),
    ("panoforge.train.rank", "torch", "what can be refused is refused before torch"),
    ("panoforge.train.distributed", "torch", "a config's world is known without torch"),
    ("panoforge.train.log", "torch", "tensorboard is read only where it is asked for"),
    ("panoforge.train.log", "wandb", "an option that is not installed with the rest"),
    ("panoforge.train.model.mtpano", "transformers", "an option that is not installed with it"),
    ("panoforge.train", "safetensors", "only where a file of that format is read or written"),
    ("panoforge.train.data", "torch", "clips are planned, and their list made, without torch"),
    ("panoforge.train.data", "training", "SAM2's containers: they load torch"),
    ("panoforge.train.data", "panoforge.train.data.clicks", "it loads torch"),
    ("panoforge.core.foreign.planes", "OpenEXR", "a render node's; others read .npy and PNG"),
    ("panoforge.eval.dense", "panoforge.eval.dense.model", "truth and folders need no torch"),
    ("panoforge.eval.predictors", "panoforge.eval.predictors", "ground truth needs no SAM2"),
    ("panoforge.eval.predictors", "sam2", "ground truth needs no SAM2"),
    ("panoforge.eval.interactive", "panoforge.eval.predictors", "ground truth needs no SAM2"),
    ("panoforge.label.loading", "panoforge.eval", "edges and truth need no torch"),
    (
        "panoforge.label.loading",
        "panoforge.label.video.sam3_tracker",
        "edges and truth need no torch",
    ),
    ("panoforge.label.teachers.loading", "panoforge", "truth and HTTP need no torch"),
    ("panoforge.label.teachers", "transformers", "an option that is not installed with the rest"),
    ("panoforge.label.teachers.moge", "moge", "an option that is not installed with the rest"),
    ("panoforge.eval.interactive", "torch", "an image is refused before torch loads"),
    ("panoforge.eval.interactive.serve", "panoforge.eval.interactive", "edges need no torch"),
    ("panoforge.eval.interactive.serve", "panoforge.core.report", "matplotlib: only to save"),
    ("panoforge.eval.interactive.serve", "panoforge.core.export", "matplotlib: only to save"),
)


def is_below(module: str, package: str) -> bool:
    """Whether `module` is `package` or lies in it."""
    return module == package or module.startswith(package + ".")


def reason_for(importer: str, imported: str) -> Row | None:
    """The row that allows an import: the most exact one, or none."""
    rows = [row for row in REASONS if is_below(importer, row[0]) and is_below(imported, row[1])]
    return max(rows, key=lambda row: len(row[0]) + len(row[1]), default=None)


def late_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of every module that a file imports inside a function."""
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    for node in {inner for function in functions for inner in ast.walk(function)}:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, str(node.module)
