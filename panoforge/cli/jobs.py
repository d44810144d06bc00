"""Verbs that hand work to a cluster: submit."""

from typing import Annotated

import typer

from panoforge.cli.app import ConfigPath, Overrides, command, err


@command("pano submit train train.yaml --address http://127.0.0.1:8265 submit.gpus=8")
def submit(
    verb: Annotated[str, typer.Argument(metavar="VERB", help="render, train or eval.")],
    config: ConfigPath,
    overrides: Overrides = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="The cluster's dashboard, http://HOST:8265, or auto."),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow/--no-follow", help="Print its log until it ends; exit as it does."),
    ] = True,
) -> None:
    """Run a stage as a job of a Ray cluster.

    Of a private Ray on this machine where no cluster is given.
    """
    from panoforge.cluster.ray.submit import load_submission
    from panoforge.cluster.ray.submit import submit as submit_job

    job = load_submission(
        verb, config, [*(overrides or ()), *([f"submit.address={address}"] if address else [])]
    )
    code = submit_job(
        job,
        follow=follow,
        write=lambda text: print(text, end="", flush=True),
        say=lambda line: err.print(line),
    )
    if code:
        raise typer.Exit(code)
