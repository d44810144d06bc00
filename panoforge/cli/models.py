"""Verbs of a model: train, eval, compare."""

from pathlib import Path
from typing import Annotated

import typer

from panoforge.cli.app import ConfigPath, Overrides, a_path, command, out, warn
from panoforge.core.run_layout import REPORT_FILE, begun


@command("pano train train.yaml --checkpoint sam2.1_hiera_large.pt steps=2000 optim.lr=1e-5")
def train(
    config: ConfigPath,
    overrides: Overrides = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            help="Start from these weights, official SAM2.1 or exported by pano train.",
            parser=a_path,
        ),
    ] = None,
) -> None:
    """Fine-tune SAM2 on scan clips of a dataset: RUN/checkpoints and RUN/metrics.jsonl.

    Resumes where it was.
    """
    from panoforge.cluster.config.jobs import TrainJobConfig
    from panoforge.cluster.config.sections import load_section
    from panoforge.stages import train_stage

    job = load_section(config, TrainJobConfig, _with(overrides, "model.checkpoint", checkpoint))
    if job.train.model.checkpoint is None and not begun(job.run):
        warn("no checkpoint is given (--checkpoint FILE): training begins with random weights")
    out.print(str(train_stage(job)))


@command(
    "pano eval eval.yaml --checkpoint model.pt methods=[direct,scan] model.size=tiny", name="eval"
)
def evaluate(
    config: ConfigPath,
    overrides: Overrides = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", metavar="FILE", help="Score these weights.", parser=a_path),
    ] = None,
    side_by_side: Annotated[
        bool, typer.Option("--compare", help="The arguments are runs: the same as pano compare.")
    ] = False,
) -> None:
    """Score a model on a dataset: RUN/eval/NAME/report.html and results.json, RUN/eval/latest.

    Each protocol, model and dataset has a NAME of its own, so nothing is overwritten by another.
    """
    if side_by_side:
        compare([config, *map(a_path, overrides or ())])
        return
    from panoforge.cluster.config.jobs import EvalJobConfig
    from panoforge.cluster.config.sections import load_section
    from panoforge.stages import eval_stage

    job = load_section(config, EvalJobConfig, overrides or ())
    dense = job.eval.task == "dense"
    if checkpoint is not None:
        key = "dense.checkpoint" if dense else "model.checkpoint"
        job = load_section(config, EvalJobConfig, _with(overrides, key, checkpoint))
    if job.eval.predictor == "sam2" and job.eval.model.checkpoint == "random":
        warn("these are scores of random weights, which say nothing of a trained model")
    found = eval_stage(job)
    from panoforge.eval.dense.table import dense_lines  # both import torch: once paths are checked
    from panoforge.eval.reports.table import as_lines

    table = dense_lines(found.results) if dense else as_lines(found.results)
    lines = [*table, str(found.folder / REPORT_FILE)]
    out.print("\n".join(lines))


@command("pano compare runs/a runs/b")
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="Folders of evaluations; the first is the reference.",
            parser=a_path,
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    form: Annotated[
        str, typer.Option("--format", help="text, json, csv, latex, md or html; scores in percent.")
    ] = "text",
) -> None:
    """Put evaluations side by side, with intervals and paired tests.

    Those that measured differently are refused.
    """
    from panoforge.eval.dense.compare import compare_maps, is_dense, render_maps
    from panoforge.eval.reports.comparison import format_of, render
    from panoforge.eval.scoring.compare import compare as compare_runs

    chosen = format_of("json" if as_json else form)
    if runs and is_dense(runs[0]):
        print(render_maps(compare_maps(runs), chosen))
        return
    print(render(compare_runs(runs), chosen))


def _with(overrides: list[str] | None, key: str, value: Path | None) -> list[str]:
    return [*(overrides or ()), *([f"{key}={value}"] if value else [])]
