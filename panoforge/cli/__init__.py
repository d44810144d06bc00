"""The `pano` command. Each verb is a few lines: load the config, call the stage, say what came out.

Verbs stand in one module per subject; importing them here registers them, in the order `pano --help` lists them.
Heavy packages are imported by the stage that needs them, inside the verb, so that `pano --help` is quick.
"""

from panoforge.cli import chain, datasets, models, pictures, runs

from panoforge.cli import jobs  # noqa: F401  # isort: skip
from panoforge.cli.app import main

__all__ = ["main"]
