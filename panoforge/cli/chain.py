"""Verbs about the whole and the machine: demo, config, doctor."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from panoforge.cli.app import ConfigPath, Overrides, app, err, out
from panoforge.core.config import config_yaml
from panoforge.core.errors import UsageError


@app.command()
def demo(
    config: ConfigPath = Path("configs/demo.yaml"),
    overrides: Overrides = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete the run first instead of resuming it.")
    ] = False,
) -> None:
    """Run the whole chain: render, pack, verify, describe, fine-tune, score."""
    from panoforge.cluster.config import VERBS, sections_of
    from panoforge.stages import Demo, demo_stage

    sections = dict(sections_of(config, overrides or ()))
    missing = [verb for verb in VERBS if verb not in sections]
    if missing:
        raise UsageError(
            f"{config} has no section {', '.join(missing)}: pano demo runs a whole chain, as"
            " configs/demo.yaml describes one"
        )
    chain = Demo(**{verb: sections[verb] for verb in VERBS})
    result = demo_stage(
        chain, lambda line: err.print(f"[bold]{escape(line)}[/bold]", markup=True), fresh=fresh
    )
    out.print(
        "time: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items())
    )
    out.print(f"dataset:           {result.dataset}\ncheckpoints:       {result.checkpoints}")
    out.print(f"dataset report:    {result.dataset_report.absolute().as_uri()}")
    out.print(f"evaluation report: {result.evaluation_report.absolute().as_uri()}")


@app.command()
def config(config: ConfigPath, overrides: Overrides = None) -> None:
    """Print the resolved config; run nothing."""
    from panoforge.cluster.config import sections_of

    print(
        "\n".join(
            _commented(config_yaml(resolved), name)
            for name, resolved in sections_of(config, overrides or ())
        )
    )


def _commented(text: str, name: str) -> str:
    return f"{name}:\n" + "".join(f"  {line}\n" for line in text.splitlines())


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what works on this machine, and what to do about what does not. Exit code 1 if something
    is broken.
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
            out.print(
                f"[{colour[check.state]}]{check.state:<8}[/] {check.name:<10}"
                f" {escape(check.finding)}",
                markup=True,
            )
            if check.advice:
                out.print(f"{'':<20}→ {check.advice}")
    if any(check.state == "broken" for check in checks):
        raise typer.Exit(1)
