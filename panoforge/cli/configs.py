"""Verbs about configs: config, init."""

from pathlib import Path
from textwrap import indent
from typing import Annotated, Any

import typer

from panoforge.cli.app import CONFIG_HELP, Overrides, a_config, a_path, command, out
from panoforge.core.errors import UsageError, nearest

CHAIN = "chain"
# What a config must say that has no default; it is the first thing to change in it.
EXAMPLES: dict[str, dict[str, Any]] = {
    "annotate": {"panoptic": [{"kind": "panoptic", "folder": "models/mask2former"}]},
    "pseudolabel": {"depth": {"kind": "depth", "folder": "models/depth-anything"}},
}


@command("pano config configs/demo.yaml render.scenes=4")
def config(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="CONFIG", help=f"{CONFIG_HELP} With --explain a verb or a key: train, optim.lr."
        ),
    ] = None,
    overrides: Overrides = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Say what keys mean; without a word, all keys of all verbs."
        ),
    ] = False,
) -> None:
    """Print the resolved config, or what its keys mean; run nothing."""
    if explain:
        _explain([*([config] if config else []), *(overrides or ())])
        return
    from panoforge.cluster.config.sections import sections_of
    from panoforge.core.config import config_yaml

    if config is None:
        raise UsageError("a config is needed: pano config FILE, or pano config --explain")
    print(
        "\n".join(
            _commented(config_yaml(resolved), name)
            for name, resolved in sections_of(a_config(config), overrides or ())
        )
    )


def _commented(text: str, name: str) -> str:
    return f"{name}:\n" + "".join(f"  {line}\n" for line in text.splitlines())


def _explain(words: list[str]) -> None:
    from panoforge.cluster.config.sections import SECTIONS
    from panoforge.core.config.explain import explained, matching

    keys = {name: explained(model) for name, model in SECTIONS.items()}
    for word in words or SECTIONS:
        for line in matching(keys, word):
            print(line.text)


@command("pano init train mine.yaml")
def init(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="render, pack, train, eval, annotate, pseudolabel, submit, or chain: the first"
            " four.",
        ),
    ],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="A new file (default: KIND.yaml).", parser=a_path),
    ] = None,
) -> None:
    """Write a config with every key, its default and what it means."""
    from panoforge.cluster.config.sections import SECTIONS, VERBS
    from panoforge.core.config.load import SHARED_KEYS
    from panoforge.core.config.template import commented
    from panoforge.core.storage.atomic import storage_errors

    known = [*SECTIONS, CHAIN]
    if kind not in known:
        raise UsageError(f"{kind!r}: expected one of {', '.join(known)}.{nearest(kind, known)}")
    run = {"run": f"runs/{kind}"}
    if kind == CHAIN:
        sections = (
            f"{name}:\n{indent(commented(VERBS[name], {}, without=SHARED_KEYS), '  ')}"
            for name in VERBS
        )
        text = "\n".join([f"# The folder of all stages.\nrun: {run['run']}\n", *sections])
    else:
        text = commented(SECTIONS[kind], {**run, **EXAMPLES.get(kind, {})})
    if kind == "submit":  # it stands beside the verb that is submitted
        text = f"submit:\n{indent(text, '  ')}"
    path = file or Path(f"{kind}.yaml")
    with storage_errors(path):
        try:
            with path.open("x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError:
            raise UsageError(f"{path} exists and is left as it is: name another file") from None
    out.print(str(path))
