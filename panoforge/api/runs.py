"""Runs: what `pano render`, `pano eval` and `pano compare` do, for a notebook."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from panoforge.cluster.render.runner import RenderSummary
    from panoforge.eval.dense.compare import MapsComparison
    from panoforge.eval.folders import Evaluation
    from panoforge.eval.scoring.compare import Comparison


def render(config: str | Path, *overrides: str) -> "RenderSummary":
    """Render what is missing of a run, as `pano render` does.

    Ray starts one Blender process per scene; the panoforge[datagen] extra must be installed.
    Calling it again goes on from what is there.

    Args:
        config: A YAML file; its `render:` section where it has one.
        *overrides: `key=value`, e.g. `"scenes=4"` or `"run=runs/mine"`.

    Returns:
        How the run stands: `panoramas`, `count("done")`, `reasons` of what was rejected. The
        panoramas lie in RUN/staged; `pano pack RUN` makes a dataset of them.

    Raises:
        ConfigError: The config is wrong; the message names the key.
        ClusterError: Ray could not be started or reached.

    Example:
        >>> import panoforge
        >>> run = panoforge.render("room.yaml", "scenes=1", "run=runs/room")
        >>> run.panoramas, run.count("failed")
        (1, 0)
    """
    from panoforge.cluster.config.jobs import RenderJobConfig
    from panoforge.cluster.config.sections import load_section
    from panoforge.stages import render_stage

    job = load_section(Path(config), RenderJobConfig, overrides)
    return render_stage(job)


def evaluate(config: str | Path, *overrides: str) -> "Evaluation":
    """Score a model on a dataset, as `pano eval` does.

    Args:
        config: A YAML file; its `eval:` section where it has one.
        *overrides: `key=value`, e.g. `"methods=[scan]"` or `"model.checkpoint=model.pt"`.

    Returns:
        Where it lies and what came out: `folder` holds the report, `results` is the content of
        results.json with `rows` (one per instance and method), `protocol_id` and `weights`.

    Raises:
        ConfigError: The config is wrong; the message names the key.
        StorageError: The dataset or the checkpoint is not there.
        DataError: One of them is damaged, or of another kind.

    Example:
        >>> import panoforge
        >>> found = panoforge.evaluate("scan.yaml", "run=runs/scan", "max_panoramas=1")
        >>> found.results["weights"]["kind"], found.results["dataset"]["panoramas"]
        ('none', 1)
    """
    from panoforge.cluster.config.jobs import EvalJobConfig
    from panoforge.cluster.config.sections import load_section
    from panoforge.stages import eval_stage

    job = load_section(Path(config), EvalJobConfig, overrides)
    return eval_stage(job)


def compare(*runs: str | Path) -> "Comparison | MapsComparison":
    """Put evaluations side by side, with 95 % intervals and paired tests by panorama.

    Args:
        *runs: Folders of evaluations; the first is the reference.

    Returns:
        The comparison: `lines`, one per run and method, or of dense tasks one per run and score.
        `panoforge.eval.reports.comparison.render` writes it, or
        `panoforge.eval.dense.compare.render_maps`.

    Raises:
        UsageError: They measured differently, or on other data; the message says what differs.
        StorageError: A folder holds no finished evaluation.
        DataError: Its results.json is damaged, or of another version.

    Example:
        >>> import panoforge
        >>> found = panoforge.compare("runs/scan", "runs/direct")
        >>> [(line.run, line.method) for line in found.lines]
        [('scan', 'scan'), ('direct', 'direct')]
    """
    from panoforge.eval.dense.compare import compare_maps, is_dense
    from panoforge.eval.scoring.compare import compare as compare_runs

    paths = [Path(run) for run in runs]
    return compare_maps(paths) if paths and is_dense(paths[0]) else compare_runs(paths)
