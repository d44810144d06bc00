"""Verbs of a render run: render, plan, status, logs, retry."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from panoforge.cli.app import (
    ConfigPath,
    Overrides,
    RunPath,
    a_path,
    a_place,
    command,
    err,
    out,
    warn,
)
from panoforge.cli.streams import failure
from panoforge.core.errors import UsageError
from panoforge.core.numbers import counted
from panoforge.core.run_layout import STAGED
from panoforge.core.words import visible
from panoforge.datagen.config.quality_profiles import QualityProfile, profile_overrides

if TYPE_CHECKING:
    from panoforge.cluster.config.jobs import RenderJobConfig

ProfileOption = Annotated[
    QualityProfile | None,
    typer.Option(
        "--profile", help="How good the pictures are: preview, draft or final; labels are the same."
    ),
]


@command("pano render render.yaml scenes=4 ray.address=auto")
def render(
    config: ConfigPath,
    overrides: Overrides = None,
    scenes: Annotated[
        int | None, typer.Option("--scenes", help="Make only the first N scenes of the run.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Say afterwards what the whole run will take.")
    ] = False,
    profile: ProfileOption = None,
) -> None:
    """Render scenes to staged panoramas in RUN/staged.

    The same command again renders only what is missing.
    """
    from panoforge.cluster.config.jobs import RenderJobConfig
    from panoforge.cluster.config.sections import load_section
    from panoforge.stages import plan_stage, render_stage

    asked = [*profile_overrides(profile), *(overrides or ())]
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
        f"{counted(summary.panoramas, 'panorama')} of {counted(summary.count('done'), 'scene')}:"
        f" {job.run / STAGED} ({counted(summary.made_now, 'scene')} settled now,"
        f" {summary.count('rejected')} rejected, {summary.count('failed')} failed)"
    )
    if summary.count("failed"):
        err.print(
            f"pano logs {job.run} SCENE says more of a scene; after pano retry {job.run} the same"
            " command makes failed ones again"
        )
    if summary.interrupted or summary.count("failed"):
        raise typer.Exit(1)


@command("pano plan render.yaml --from runs/first --slots 64")
def plan(
    config: ConfigPath,
    overrides: Overrides = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="RUN", help="Calibrate on that run, not its own.", parser=a_path
        ),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option("--slots", help="Scenes at once (default: what this machine holds)."),
    ] = None,
    profile: ProfileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Say what a render run will take: time, core-hours, memory, disk, money.

    From scenes that were made before, or from a probe of this machine.
    """
    from panoforge.cluster.config.jobs import RenderJobConfig
    from panoforge.cluster.config.sections import load_section
    from panoforge.scene_sources import generation_costs
    from panoforge.stages import plan_stage

    job = load_section(config, RenderJobConfig, [*profile_overrides(profile), *(overrides or ())])
    _warn_of_missing(job)
    for sentence in generation_costs(job.render):
        err.print(sentence)
    found = plan_stage(job, calibration, slots)
    print(json.dumps(found.as_json()) if as_json else "\n".join(found.as_lines()))


def _warn_of_missing(job: "RenderJobConfig") -> None:
    from panoforge.scene_sources import missing_here

    for sentence in missing_here(job.render):
        warn(sentence, "missing here:")


@command("pano sources install infinigen1")
def sources(
    action: Annotated[
        Literal["install"] | None, typer.Argument(help="install: bring what a source needs.")
    ] = None,
    name: Annotated[
        Literal["infinigen1", "infinigen1-assets"] | None,
        typer.Argument(help="What to install: Infinigen 1, or a library of its small things."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FOLDER", help="Where (default: your cache).", parser=a_path),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the scene sources, and what this machine lacks for them; or install what one needs."""
    from panoforge.scene_sources import install_assets, install_infinigen1, known_sources

    if action is not None:
        if name is None:
            raise UsageError(
                "pano sources install: say what to install: infinigen1 or infinigen1-assets"
            )
        install, key = {
            "infinigen1": (install_infinigen1, "overlay"),
            "infinigen1-assets": (install_assets, "library"),
        }[name]
        place = install(to, lambda line: err.print(line))
        out.print(f"{name} is ready: {place}")
        if to is not None:
            out.print(f"configs name it by the key {key} of their source: {key}: {place}")
        return
    if as_json:
        print(json.dumps([vars(state) for state in known_sources()]))
        return
    for state in known_sources():
        how = ("limited", "yellow") if state.missing else ("ok     ", "green")
        out.print(Text.assemble(how, f"  {state.name:<20} {state.makes}"))
        if state.missing:
            out.print(f"{'':<30}→ {state.missing}")


@command("pano generate configs/infinigen1.yaml sources.0.cache=scenes")
def generate(
    config: ConfigPath,
    overrides: Overrides = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="At once (default: one a core).")
    ] = None,
) -> None:
    """Generate the scenes of a run into the cache of its sources (infinigen1.*); render nothing.

    Renders and pano verify --rays read them there, whatever the cameras.
    """
    from panoforge.cluster.config.jobs import RenderJobConfig
    from panoforge.cluster.config.sections import load_section
    from panoforge.stages import generate_stage

    job = load_section(config, RenderJobConfig, overrides or ())
    _warn_of_missing(job)
    done = generate_stage(job, workers)
    out.print(
        f"{counted(done.made, 'scene')} generated, {counted(done.cached, 'scene')} were in the"
        f" cache, {counted(len(done.failed), 'scene')} failed"
    )
    if done.failed:
        raise typer.Exit(1)


@command("pano status runs/demo --watch")
def status(
    run: RunPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Again and again, until the run has ended.")
    ] = False,
    html: Annotated[bool, typer.Option("--html", help="Write RUN/status.html.")] = False,
) -> None:
    """Say how a render run stands.

    Scenes, panoramas per hour, time left, core-hours, money, failures, nodes.
    """
    from panoforge.cluster.status.status import as_lines, read_status
    from panoforge.cluster.status.status_page import write_page

    while True:
        found = read_status(run)
        print(
            json.dumps(found.as_json()) if as_json else visible("\n".join(as_lines(found))),
            flush=True,
        )
        if html:
            out.print(str(write_page(run)))
        if not watch or found.state in ("finished", "stopped") or failure():
            return
        time.sleep(5)


@command("pano logs runs/demo 7")
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
        err.print(visible(what))
    print(visible(text))


@command("pano retry runs/demo --reason oom")
def retry(
    run: RunPath,
    reason: Annotated[
        str | None,
        typer.Option("--reason", help="Only those that failed so: oom, crash, or words of it."),
    ] = None,
    ledger: Annotated[
        Any,
        typer.Option(
            "--ledger", metavar="URL", help="The run's ledger, if not in RUN.", parser=a_place
        ),
    ] = None,
) -> None:
    """Forgive failed scenes: the next `pano render` makes them again."""
    from panoforge.cluster.render.retry import retry as forgive

    scenes = forgive(run, reason, ledger)
    names = f": {', '.join(scenes[:10])}" if scenes else ""
    made = counted(len(scenes), "scene")
    out.print(visible(f"{made} will be made again by the next pano render{names}"))
