"""Verbs of a render run: render, plan, status, logs, retry."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from panoforge.cli.app import ConfigPath, Overrides, RunPath, app, err, out
from panoforge.cli.streams import failure

if TYPE_CHECKING:
    from panoforge.cluster.config import RenderJobConfig


@app.command()
def render(
    config: ConfigPath,
    overrides: Overrides = None,
    scenes: Annotated[
        int | None, typer.Option("--scenes", help="Make only the first N scenes of the run.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Say afterwards what the whole run will take.")
    ] = False,
) -> None:
    """Render scenes to staged panoramas in RUN/staged. The same command again renders only what is
    missing.
    """
    from panoforge.cluster.config import RenderJobConfig, load_section
    from panoforge.stages import plan_stage, render_stage

    asked = list(overrides or ())
    whole = load_section(config, RenderJobConfig, asked)
    first = [f"scenes={scenes}"] if scenes is not None else []
    job = load_section(config, RenderJobConfig, asked + first)
    _warn_of_missing(job)
    summary = render_stage(job)
    if calibrate:
        out.print("\n".join(plan_stage(whole).as_lines()))
    for reason, count in summary.reasons.items():
        err.print(f"{count:>6} × {reason}")
    out.print(
        f"{summary.panoramas} panoramas of {summary.count('done')} scenes are staged in"
        f" {job.run / 'staged'} ({summary.made_now} scenes made now, {summary.count('rejected')}"
        f" rejected, {summary.count('failed')} failed)"
    )
    if summary.interrupted or summary.count("failed"):
        raise typer.Exit(1)


@app.command()
def plan(
    config: ConfigPath,
    overrides: Overrides = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="Calibrate on that run, not its own."),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option("--slots", help="Scenes at once (default: what this machine holds)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Say what a render run will take (time, core-hours, memory, disk, money), from scenes that
    were made before.
    """
    from panoforge.cluster.config import RenderJobConfig, load_section
    from panoforge.stages import plan_stage

    job = load_section(config, RenderJobConfig, overrides or ())
    _warn_of_missing(job)
    found = plan_stage(job, calibration, slots)
    print(json.dumps(found.as_json()) if as_json else "\n".join(found.as_lines()))


def _warn_of_missing(job: "RenderJobConfig") -> None:
    from panoforge.scene_sources import missing_here

    for sentence in missing_here(job.render):
        err.print(f"[yellow]missing here:[/] {escape(sentence)}", markup=True)


@app.command()
def sources(
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the scene sources, and what this machine lacks for them."""
    from panoforge.scene_sources import known_sources

    if as_json:
        print(json.dumps([vars(state) for state in known_sources()]))
        return
    for state in known_sources():
        out.print(
            f"{'[yellow]limited[/]' if state.missing else '[green]ok[/]     '}  {state.name:<20}"
            f" {escape(state.makes)}",
            markup=True,
        )
        if state.missing:
            out.print(f"{'':<30}→ {state.missing}")


@app.command()
def status(
    run: RunPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Again and again, until the run has ended.")
    ] = False,
    html: Annotated[bool, typer.Option("--html", help="Write RUN/status.html.")] = False,
) -> None:
    """Say how a render run stands: scenes, panoramas per hour, time left, core-hours, money,
    failures, nodes.
    """
    from panoforge.cluster.status.status import as_lines, read_status
    from panoforge.cluster.status.status_page import write_page

    while True:
        found = read_status(run)
        print(json.dumps(found.as_json()) if as_json else "\n".join(as_lines(found)), flush=True)
        if html:
            out.print(str(write_page(run)))
        if not watch or found.state in ("finished", "stopped") or failure():
            return
        time.sleep(5)


@app.command()
def logs(
    run: RunPath,
    scene: Annotated[str, typer.Argument(metavar="SCENE", help="Its name, or its number.")],
) -> None:
    """Print the attempts at a scene and its log."""
    from panoforge.cluster.render.retry import scene_log

    attempts, text = scene_log(run, scene)
    for record in attempts:
        what = (
            f"attempt {record.attempt} ({record.profile}): {record.outcome} {record.reason}"
            f" [{record.exit}] on {record.node}"
        )
        err.print(what)
    print(text)


@app.command()
def retry(
    run: RunPath,
    reason: Annotated[
        str | None,
        typer.Option("--reason", help="Only those that failed so: oom, crash, or words of it."),
    ] = None,
) -> None:
    """Forgive failed scenes: the next `pano render` makes them again."""
    from panoforge.cluster.render.retry import retry as forgive

    scenes = forgive(run, reason)
    names = f": {', '.join(scenes[:10])}" if scenes else ""
    out.print(f"{len(scenes)} scenes will be made again by the next pano render{names}")
