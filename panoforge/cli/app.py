"""What all verbs share.

The application, where they print, the common arguments, and the entry point that turns errors to
codes.

Results go to stdout; progress and errors go to stderr. What an exit code means stands in
`panoforge.core.errors`. Nothing heavy is imported here: `pano --help` must come at once.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.text import Text

import panoforge.core
from panoforge.cli.crashes import keep_traceback, missing_extra
from panoforge.cli.streams import last_words, open_streams
from panoforge.core import __version__
from panoforge.core.errors import FAILED, INTERRUPTED, USAGE, UserError
from panoforge.core.words import visible

Verb = TypeVar("Verb", bound=Callable[..., None])

app = typer.Typer(
    name="pano",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help takes longer to import than all the rest
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help=(
        "Render 4K panoramas with exact instance ids, pack them safely, fine-tune SAM2 on panoramic"
        " scans, score it."
    ),
)
# No markup and no emoji codes: a folder may be called [/b] or :x:.
out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def command(example: str, name: str | None = None) -> Callable[[Verb], Verb]:
    """Register a verb.

    Its help is the docstring, in paragraphs rather than in the source's lines, and ends with the
    example.
    """

    def register(function: Verb) -> Verb:
        paragraphs = (function.__doc__ or "").split("\n\n")
        text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        app.command(name, help=text, epilog=f"Example: {example}")(function)
        return function

    return register


def a_path(text: str | Path) -> Path:
    """A path of the command line, `~` expanded."""
    from panoforge.core.storage.location import expanded

    try:
        return expanded(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def a_place(text: str) -> Path | str:
    """A folder or a URL of the command line, `~` expanded."""
    from panoforge.core.storage.location import location

    try:
        return location(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def a_config(text: str | Path) -> Path:
    """A config file of the command line.

    `configs/…` that is not there is panoforge's own file of that name, so that the README's
    commands work in any folder.
    """
    path = a_path(text)
    ours = Path(panoforge.core.__file__).parents[1] / path
    if path.parts[:1] != ("configs",) or path.exists() or not ours.is_file():
        return path
    err.print(f"{path} is not here: reading panoforge's own, {ours}")
    return ours


CONFIG_HELP = (
    "A YAML file, see pano init. configs/… that is not there is panoforge's own, e.g."
    " configs/demo.yaml."
)
ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help=CONFIG_HELP, parser=a_config)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Keys that differ from the config."),
]
RunPath = Annotated[
    Path, typer.Argument(metavar="RUN", help="The folder of a render run.", parser=a_path)
]
DatasetUrl = Annotated[
    Any,
    typer.Argument(
        metavar="DATASET", help="A folder, or a URL such as s3://bucket/dataset.", parser=a_place
    ),
]


def warn(text: str, what: str = "warning:") -> None:
    """A line on stderr that something may not be as it was meant."""
    err.print(Text.assemble((what, "yellow"), " ", visible(text)))


def error(text: str) -> None:
    """The line on stderr with which a verb ends that could not do its work."""
    err.print(Text.assemble(("error:", "red"), " ", visible(text)))


def _version(show: bool) -> None:
    if show:
        out.print(f"panoforge {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="No progress, before or behind the verb.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show the traceback of an unexpected error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that stand before or behind a verb."""
    if quiet:
        from panoforge.core.progress import be_quiet

        be_quiet()
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Entry point: run a verb, turn an error into one line and its exit code."""
    # Torch's threads spin while they wait; beside any other work that makes everything several
    # times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    open_streams()
    words = options_first(sys.argv[1:] if arguments is None else arguments)
    code = _run(words)
    if lost := last_words():
        error(lost)
        code = code or FAILED
    sys.exit(code)


def options_first(words: list[str]) -> list[str]:
    """-q and -v may stand behind the verb too."""
    end = words.index("--") if "--" in words else len(words)
    everywhere = ("-q", "--quiet", "-v", "--verbose")
    moved = [word for word in words[:end] if word in everywhere]
    return [*moved, *(word for word in words[:end] if word not in everywhere), *words[end:]]


def _run(words: list[str]) -> int:
    try:
        code = app(words, prog_name="pano", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except UserError as failure:
        error(str(failure))
        return failure.exit_code
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        err.print("stopped")
        return INTERRUPTED
    except Exception as failure:
        if hasattr(failure, "format_message"):  # of the command line's own library
            error(f"{failure.format_message()} See {_path(failure)} -h")
            return USAGE
        if "-v" in words or "--verbose" in words:
            err.print_exception()
        error(missing_extra(failure) or keep_traceback(failure))
        return FAILED


def _path(failure: Any) -> str:
    context = getattr(failure, "ctx", None)
    return context.command_path if context else "pano"
