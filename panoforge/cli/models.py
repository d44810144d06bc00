"""Verbs of a model: train, eval, compare."""

from pathlib import Path
from typing import Annotated

import typer

from panoforge.cli.app import ConfigPath, Overrides, app, out
from panoforge.core.run_layout import REPORT_FILE


@app.command()
def train(
    config: ConfigPath,
    overrides: Overrides = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Start from an official SAM2.1 checkpoint.")
    ] = None,
) -> None:
    """Fine-tune SAM2 on scan clips of a dataset: RUN/checkpoints and RUN/metrics.jsonl. Resumes
    where it was.
    """
    from panoforge.cluster.config import TrainJobConfig, load_section
    from panoforge.stages import train_stage

    job = load_section(config, TrainJobConfig, _with(overrides, "model.checkpoint", checkpoint))
    out.print(str(train_stage(job)))


@app.command(name="eval")
def evaluate(
    config: ConfigPath,
    overrides: Overrides = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Score this checkpoint.")
    ] = None,
    side_by_side: Annotated[
        bool, typer.Option("--compare", help="The arguments are runs: the same as pano compare.")
    ] = False,
) -> None:
    """Score a model on a dataset: RUN/eval/NAME/report.html and results.json, RUN/eval/latest.

    Each protocol, model and dataset has a NAME of its own, so nothing is overwritten by another.
    """
    if side_by_side:
        compare([config, *map(Path, overrides or ())])
        return
    from panoforge.cluster.config import EvalJobConfig, load_section
    from panoforge.eval.reports.table import as_lines
    from panoforge.stages import eval_stage

    job = load_section(config, EvalJobConfig, _with(overrides, "model.checkpoint", checkpoint))
    found = eval_stage(job)
    lines = [*as_lines(found.results), str(found.folder / REPORT_FILE)]
    out.print("\n".join(lines))


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Folders of evaluations; the first is the reference."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    form: Annotated[
        str, typer.Option("--format", help="text, json, csv, latex or md; scores in percent.")
    ] = "text",
) -> None:
    """Put evaluations side by side, with intervals and paired tests. Those that measured
    differently are refused.
    """
    from panoforge.eval.reports.comparison import format_of, render
    from panoforge.eval.scoring.compare import compare as compare_runs

    chosen = format_of("json" if as_json else form)
    print(render(compare_runs(runs), chosen))


def _with(overrides: list[str] | None, key: str, value: Path | None) -> list[str]:
    return [*(overrides or ()), *([f"{key}={value}"] if value else [])]
