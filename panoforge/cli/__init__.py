"""The `pano` command. Each verb is a few lines: load the config, call the stage, say what came out.

Verbs stand in one module per subject; importing them here registers them, in the order `pano
--help` lists them. Heavy packages are imported by the stage that needs them, inside the verb, so
that `pano --help` is quick.
"""

# isort: off
from panoforge.cli import chain, configs, runs, datasets, models, pictures, labelling, jobs
from panoforge.cli.app import main
# isort: on

__all__ = [
    "chain",
    "configs",
    "datasets",
    "jobs",
    "labelling",
    "main",
    "models",
    "pictures",
    "runs",
]
