"""What all verbs share: the application, where they print, the common arguments, and the entry
point that turns errors to codes.

Exit codes: 0 done, 1 failed (or faults were found), 2 bad usage or config. Errors a user can meet
are one message on stderr; results go to stdout, progress to stderr.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

import panoforge.core
from panoforge.cli.streams import last_words, open_streams
from panoforge.core import __version__
from panoforge.core.errors import UserError

app = typer.Typer(
    name="pano",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help=(
        "Render 4K panoramas with exact instance ids, pack them safely, fine-tune SAM2 on panoramic"
        " scans, score it."
    ),
)
# What is printed holds names that users chose: `[/b]` is a folder, not a tag. Lines that are styled
# pass markup=True, and escape what they quote.
out = Console(highlight=False, soft_wrap=True, markup=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def shipped(config: Path) -> Path:
    """The config to read: where `configs/…` is not there, the file of that name that panoforge
    ships. So the README's commands work in any folder.
    """
    ours = Path(panoforge.core.__file__).parents[1] / config
    if config.parts[0] != "configs" or config.exists() or not ours.is_file():
        return config
    err.print(f"{escape(str(config))} is not here: reading panoforge's own, {escape(str(ours))}")
    return ours


CONFIG_HELP = "A YAML file. configs/… that is not there is panoforge's own, e.g. configs/demo.yaml."
ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", callback=shipped, help=CONFIG_HELP)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Config overrides, e.g. scenes=4 ray.address=auto."
    ),
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a render run.")]
DatasetUrl = Annotated[
    str, typer.Argument(metavar="DATASET", help="A folder, or a URL such as s3://bucket/dataset.")
]


def _version(show: bool) -> None:
    if show:
        out.print(f"panoforge {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that stand before a verb."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point: run a verb, turn a `UserError` into one message and its exit code."""
    code: int | str | None
    # Torch's threads spin while they wait; beside any other work that makes everything several
    # times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    open_streams()
    try:
        code = app(arguments, standalone_mode=False) or 0
    except UserError as error:
        err.print(f"[red]error:[/] {escape(str(error))}", markup=True)
        code = error.exit_code
    except typer.Exit as stop:
        code = stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        err.print("stopped")
        code = 130
    except Exception as error:
        if not hasattr(error, "exit_code") or not hasattr(error, "format_message"):
            raise
        err.print(f"[red]error:[/] {escape(error.format_message())}", markup=True)
        code = 2
    if words := last_words():
        err.print(f"[red]error:[/] {escape(words)}", markup=True)
        code = code or 1
    sys.exit(code)
