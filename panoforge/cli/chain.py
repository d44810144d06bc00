"""Verbs about the whole and the machine: demo, doctor."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from panoforge.cli.app import a_config, command, err, out
from panoforge.core.errors import UsageError

DEMO = "configs/demo.yaml"


@command("pano demo run=runs/mine render.scenes=4")
def demo(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [SECTION.KEY=VALUE]",
            help="A chain of stages (default: the demo's), and keys that differ; run=FOLDER.",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete the run first instead of resuming it.")
    ] = False,
) -> None:
    """Run the whole chain: render, pack, verify, describe, fine-tune, score."""
    from panoforge.cluster.config.sections import VERBS, sections_of
    from panoforge.stages import Demo, demo_stage

    given = list(words or ())
    config = a_config(given.pop(0)) if given and "=" not in given[0] else a_config(DEMO)
    sections: dict[str, Any] = dict(sections_of(config, given))
    missing = [verb for verb in VERBS if verb not in sections]
    if missing:
        raise UsageError(
            f"{config} has no section {', '.join(missing)}: pano demo runs a whole chain, as"
            " configs/demo.yaml describes one"
        )
    chain = Demo(**{verb: sections[verb] for verb in VERBS})
    result = demo_stage(chain, lambda line: err.print(line, style="bold"), fresh=fresh)
    out.print(
        "time: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items())
    )
    out.print(f"dataset:           {result.dataset}\ncheckpoints:       {result.checkpoints}")
    out.print(f"dataset report:    {result.dataset_report.absolute().as_uri()}")
    out.print(f"evaluation report: {result.evaluation_report.absolute().as_uri()}")
    out.print("what to try next:")
    for tried, what in next_steps(chain.render.run):
        out.print(f"    {tried:<{NEXT_WIDTH}}  # {what}")


NEXT_WIDTH = 58


def next_steps(run: Path) -> list[tuple[str, str]]:
    """Three commands that go on from a demo, and what each shows."""
    dataset = shlex.quote(str(run / "dataset"))
    look = shlex.quote(str(run / "look"))
    return [
        (f"pano serve {dataset} --predictor truth", "click on things: their true masks"),
        (f"pano preview {dataset} --out {look}", "ids, depth, normals, and its points in space"),
        ("pano init render mine.yaml", "a config of your own, every key explained"),
    ]


@command("pano doctor --json")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what works on this machine, and what to do about what does not.

    Exit code 1 if something is broken.
    """
    from panoforge.doctor import as_json as to_json
    from panoforge.doctor import diagnose

    if as_json:
        checks = diagnose(Path.cwd())
        print(to_json(checks))
    else:
        with err.status("looking …") as status:
            checks = diagnose(Path.cwd(), lambda name: status.update(f"looking at {name} …"))
        colour = {"ok": "green", "limited": "yellow", "broken": "red"}
        for check in checks:
            state = (f"{check.state:<8}", colour[check.state])
            out.print(Text.assemble(state, f" {check.name:<10} {check.finding}"))
            if check.advice:
                out.print(f"{'':<20}→ {check.advice}")
    if any(check.state == "broken" for check in checks):
        raise typer.Exit(1)
