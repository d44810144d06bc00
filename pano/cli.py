"""The `pano` command. Each verb is a few lines: load the config, call the stage, say what came out.

Exit codes: 0 done, 1 failed (or faults were found), 2 bad usage or config. Errors a user can meet are one message on
stderr; results go to stdout, progress to stderr. Heavy packages are imported by the stage that needs them.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pano import __version__
from pano.config import config_yaml, load_config
from pano.errors import UsageError, UserError

app = typer.Typer(
    name="pano", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Render 4K panoramas with exact instance ids, pack them safely, fine-tune SAM2 on panoramic scans, score it.",
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, e.g. configs/demo.yaml.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Config overrides, e.g. scenes=4 ray.address=auto.")
]


def _version(show: bool) -> None:
    if show:
        out.print(f"panoforge {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Options that stand before a verb."""


@app.command()
def demo(
    config: Annotated[Path, typer.Argument(metavar="[CONFIG]")] = Path("configs/demo.yaml"),
    overrides: Overrides = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the run first instead of resuming it.")] = False,
) -> None:
    """Run the whole chain: render, pack, verify, describe, fine-tune, score."""
    from cluster.config import EvalJobConfig, PackConfig, RenderJobConfig, TrainJobConfig
    from cluster.stages import Demo, demo_stage

    shared = [text for text in overrides or () if text.startswith("run=")]
    if len(shared) != len(overrides or ()):
        raise UsageError("pano demo takes run=FOLDER only: to change a stage, copy configs/demo.yaml, or run the stage's own verb")
    chain = Demo(
        load_config(config, RenderJobConfig, shared, section="render"), load_config(config, PackConfig, section="pack"),
        load_config(config, TrainJobConfig, shared, section="train"), load_config(config, EvalJobConfig, shared, section="eval"),
    )
    result = demo_stage(chain, lambda line: err.print(f"[bold]{escape(line)}[/bold]"), fresh=fresh)
    out.print("time: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items()))
    out.print(f"dataset:           {result.dataset}\ncheckpoints:       {result.checkpoints}")
    out.print(f"dataset report:    {result.dataset_report.absolute().as_uri()}")
    out.print(f"evaluation report: {result.evaluation_report.absolute().as_uri()}")


@app.command()
def render(
    config: ConfigPath, overrides: Overrides = None,
    scenes: Annotated[int | None, typer.Option("--scenes", help="Make only the first N scenes of the run.")] = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Say afterwards what the whole run will take.")] = False,
) -> None:
    """Render scenes to staged panoramas in RUN/staged. The same command again renders only what is missing."""
    from cluster.config import RenderJobConfig
    from cluster.stages import plan_stage, render_stage

    whole = load_config(config, RenderJobConfig, overrides or (), section="render")
    job = load_config(config, RenderJobConfig, [*(overrides or ()), *([f"scenes={scenes}"] if scenes else [])], section="render")
    summary = render_stage(job)
    if calibrate:
        out.print("\n".join(plan_stage(whole).as_lines()))
    for reason, count in summary.reasons.items():
        err.print(f"{count:>6} × {escape(reason)}")
    out.print(f"{summary.panoramas} panoramas of {summary.count('done')} scenes are staged in {job.run / 'staged'} "
              f"({summary.made_now} scenes made now, {summary.count('rejected')} rejected, {summary.count('failed')} failed)")
    if summary.interrupted or summary.count("failed"):
        raise typer.Exit(1)


@app.command()
def plan(
    config: ConfigPath, overrides: Overrides = None,
    calibration: Annotated[Path | None, typer.Option("--from", metavar="RUN", help="Calibrate on that run, not its own.")] = None,
    slots: Annotated[int | None, typer.Option("--slots", help="Scenes at once (default: what this machine holds).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Say what a render run will take (time, core-hours, memory, disk, money), from scenes that were made before."""
    from cluster.config import RenderJobConfig
    from cluster.stages import plan_stage

    found = plan_stage(load_config(config, RenderJobConfig, overrides or (), section="render"), calibration, slots)
    print(json.dumps(found.as_json()) if as_json else "\n".join(found.as_lines()))


RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a render run.")]


@app.command()
def status(
    run: RunPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until the run has ended.")] = False,
    html: Annotated[bool, typer.Option("--html", help="Write RUN/status.html.")] = False,
) -> None:
    """Say how a render run stands: scenes, panoramas per hour, time left, core-hours, money, failures, nodes."""
    from cluster.status import as_lines, read_status
    from cluster.status_page import write_page

    while True:
        found = read_status(run)
        print(json.dumps(found.as_json()) if as_json else "\n".join(as_lines(found)), flush=True)
        if html:
            out.print(str(write_page(run)))
        if not watch or found.state in ("finished", "stopped"):
            return
        time.sleep(5)


@app.command()
def logs(run: RunPath, scene: Annotated[str, typer.Argument(metavar="SCENE", help="Its name, or its number.")]) -> None:
    """Print the attempts at a scene and its log."""
    from cluster.retry import scene_log

    attempts, text = scene_log(run, scene)
    for record in attempts:
        what = f"attempt {record.attempt} ({record.profile}): {record.outcome} {record.reason} [{record.exit}] on {record.node}"
        err.print(escape(what))
    print(text)


@app.command()
def retry(
    run: RunPath,
    reason: Annotated[str | None, typer.Option("--reason", help="Only those that failed so: oom, crash, or words of it.")] = None,
) -> None:
    """Forgive failed scenes: the next `pano render` makes them again."""
    from cluster.retry import retry as forgive

    scenes = forgive(run, reason)
    names = f": {', '.join(scenes[:10])}" if scenes else ""
    out.print(f"{len(scenes)} scenes will be made again by the next pano render{names}")


@app.command()
def pack(run: Annotated[Path, typer.Argument(metavar="RUN")], overrides: Overrides = None) -> None:
    """Pack RUN/staged into RUN/dataset: shards, index, manifest. Keys: shard_bytes, splits, salt."""
    from cluster.config import PackConfig
    from cluster.stages import pack_stage
    from pano.config import config_from_overrides

    manifest = pack_stage(run, config_from_overrides(PackConfig, overrides or ()))
    out.print(f"{manifest.samples} panoramas with {manifest.instances} instances, {len(manifest.shards)} shards: {run / 'dataset'}")


@app.command()
def verify(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET")],
    as_json: Annotated[bool, typer.Option("--json", help="Print {samples, faults} as JSON.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Decode every product, not only metadata and label maps.")] = False,
) -> None:
    """Check every digest, every schema, every label map of a dataset. Exit code 1 with the list of faults."""
    from cluster.stages import verify_stage

    report = verify_stage(dataset, deep=deep)
    if as_json:
        print(json.dumps({"samples": report.samples, "faults": [vars(fault) for fault in report.faults]}))
    else:
        for fault in report.faults:
            out.print(escape(f"{fault.file}: {fault.sample or '(no sample)'}: {fault.what}"))
        out.print(f"{report.samples} samples, {len(report.faults)} faults")
    if report.faults:
        raise typer.Exit(1)


@app.command()
def stats(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET")],
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where report.html and report.json go.")],
) -> None:
    """Describe a dataset: DIR/report.html and DIR/report.json."""
    from cluster.stages import stats_stage

    out.print(str(stats_stage(dataset, folder)))


@app.command()
def query(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET")],
    expression: Annotated[str, typer.Argument(metavar="EXPRESSION", help="e.g. \"category == 'sofa' and sr > 0.01\"")],
    split: Annotated[str | None, typer.Option("--split", help="Look in this split only.")] = None,
    folder: Annotated[Path | None, typer.Option("--extract", metavar="DIR", help="Write the samples' members to DIR.")] = None,
    products: Annotated[str | None, typer.Option("--products", help="Which products to extract, e.g. rgb,instance.")] = None,
) -> None:
    """List the samples that match an expression over the index; extract them by byte range."""
    from pano.shards.query import extract, find
    from pano.shards.read import Dataset

    opened = Dataset.open(dataset, split)
    matches = find(opened, expression)
    out.print("\n".join(matches.keys), markup=False)
    err.print(f"{len(matches.keys)} of {len(opened)} samples")
    if folder:
        written = extract(opened, matches.keys, folder, tuple(products.split(",")) if products else None)
        err.print(f"{len(written)} files in {folder}")


@app.command()
def export(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    to: Annotated[str, typer.Option("--to", help="coco, yolo-seg, sa1b, mask2former-panoptic, sav, davis or ytvis.")],
    split: Annotated[str | None, typer.Option("--split")] = None,
    perspective: Annotated[bool, typer.Option("--perspective", help="Scan views (90°, 50 %) instead of panoramas.")] = False,
) -> None:
    """Write a dataset in a format that other tools read."""
    from pano.export import ExportOptions
    from pano.export import export as write_export
    from pano.progress import Progress
    from pano.scan import ScanSpec
    from pano.shards.read import Dataset

    opened = Dataset.open(dataset, split)
    options = ExportOptions(perspective=ScanSpec()) if perspective else ExportOptions()
    with Progress("export", total=len(opened)) as progress:
        write_export(opened, to, folder, options, on_sample=lambda key: progress.advance())
    out.print(str(folder))


@app.command()
def train(
    config: ConfigPath, overrides: Overrides = None,
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="Start from an official SAM2.1 checkpoint.")] = None,
) -> None:
    """Fine-tune SAM2 on scan clips of a dataset: RUN/checkpoints and RUN/metrics.jsonl. Resumes where it was."""
    from cluster.config import TrainJobConfig
    from cluster.stages import train_stage

    job = load_config(config, TrainJobConfig, _with(overrides, "model.checkpoint", checkpoint), section="train")
    out.print(str(train_stage(job)))


@app.command(name="eval")
def evaluate(
    config: ConfigPath, overrides: Overrides = None,
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="Score this checkpoint.")] = None,
) -> None:
    """Score a model on a dataset: RUN/report.html and RUN/results.json."""
    from cluster.config import EvalJobConfig
    from cluster.stages import eval_stage

    job = load_config(config, EvalJobConfig, _with(overrides, "model.checkpoint", checkpoint), section="eval")
    eval_stage(job)
    out.print(str(job.run / "report.html"))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of evaluations; the first is the reference.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Put evaluations side by side, with intervals and paired tests. Those that measured differently are refused."""
    from eval.compare import compare as compare_runs

    found = compare_runs(runs)
    print(json.dumps(found.as_json(), ensure_ascii=False) if as_json else "\n".join(found.as_lines()))


def _with(overrides: list[str] | None, key: str, value: Path | None) -> list[str]:
    return [*(overrides or ()), *([f"{key}={value}"] if value else [])]


@app.command()
def config(config: ConfigPath, overrides: Overrides = None) -> None:
    """Print the resolved config; run nothing."""
    from cluster.config import sections_of

    print("\n".join(_commented(config_yaml(resolved), name) for name, resolved in sections_of(config, overrides or ())))


def _commented(text: str, name: str) -> str:
    return f"{name}:\n" + "".join(f"  {line}\n" for line in text.splitlines())


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """Say what works on this machine, and what to do about what does not. Exit code 1 if something is broken."""
    from cluster.doctor import as_json as to_json
    from cluster.doctor import diagnose

    if as_json:
        checks = diagnose(Path.cwd())
        print(to_json(checks))
    else:
        with err.status("looking …") as status:
            checks = diagnose(Path.cwd(), lambda name: status.update(f"looking at {name} …"))
        colour = {"ok": "green", "limited": "yellow", "broken": "red"}
        for check in checks:
            out.print(f"[{colour[check.state]}]{check.state:<8}[/] {check.name:<10} {escape(check.finding)}")
            if check.advice:
                out.print(f"{'':<20}→ {escape(check.advice)}")
    if any(check.state == "broken" for check in checks):
        raise typer.Exit(1)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: run a verb, turn a `UserError` into one message and its exit code."""
    code: int | str | None
    # Torch's threads spin while they wait; beside any other work that makes everything several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = app(arguments, standalone_mode=False) or 0
    except UserError as error:
        err.print(f"[red]error:[/] {escape(str(error))}")
        code = error.exit_code
    except typer.Exit as stop:
        code = stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        err.print("stopped")
        code = 130
    except Exception as error:
        if not hasattr(error, "exit_code") or not hasattr(error, "format_message"):
            raise
        err.print(f"[red]error:[/] {escape(error.format_message())}")
        code = 2
    sys.stdout.flush()
    sys.exit(code)


if __name__ == "__main__":
    main()
