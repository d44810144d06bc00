"""Verbs that label: annotate, pseudolabel."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from panoforge.cli.app import Overrides, a_config, a_path, command, out, warn
from panoforge.core.errors import DataError, UsageError
from panoforge.core.numbers import counted, percent

if TYPE_CHECKING:
    from panoforge.core.config.flat import FlatModel

SHOWN = 10  # of what is to be looked at
Job = TypeVar("Job", bound="FlatModel")
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Teachers, views and rules; KEY=VALUE alone will do.",
        parser=a_config,
    ),
]


def out_option(beside: str) -> Any:
    """`--out`; without it the folder is INPUT.`beside`."""
    return typer.Option(
        "--out",
        metavar="DIR",
        help=f"Where labels are written; without it INPUT.{beside}.",
        parser=a_path,
    )


def by_words(
    text: Sequence[str] | None,
    sam3: Path | None,
    config: Path | None,
    overrides: Sequence[str] | None,
) -> list[str]:
    """`--text` as overrides: SAM3 is the teacher, and carries masks along unless told otherwise."""
    if not text and sam3 is None:
        return []
    if not text or sam3 is None:
        raise UsageError(
            "--text and --sam3 go together: --text chair --sam3 DIR, the folder of SAM3's weights"
        )
    given = given_keys(config, overrides)
    for key in ("panoptic", "entities"):
        if key in given:
            raise UsageError(
                f"--text asks SAM3 alone, and {key} is given: leave one of both out, or name SAM3"
                f" among {key} with kind: sam3"
            )
    folder = str(sam3.absolute())
    teacher = {"kind": "sam3", "folder": folder, "words": [*text]}
    words = [f"panoptic={json.dumps([teacher])}"]
    if "follow" not in given:
        words.append(f"follow={json.dumps({'kind': 'sam3', 'folder': folder})}")
    return words


def given_keys(config: Path | None, overrides: Sequence[str] | None) -> set[str]:
    """The first parts of the keys that a file and the command line say."""
    from panoforge.core.config.load import top_level

    words = {word.partition("=")[0].partition(".")[0] for word in overrides or ()}
    return words | (top_level(config) if config else set())


def job_of(
    model: type[Job],
    config: Path | None,
    overrides: Sequence[str] | None,
    to: Path | None,
    beside: Path,
) -> Job:
    """The config of a verb that labels; `run` is `--out`, or given, or lies beside the input."""
    from panoforge.cluster.config.sections import load_section
    from panoforge.core.config.load import config_from_overrides

    words = list(overrides or ())
    if to is not None or "run" not in given_keys(config, overrides):
        words.append(f"run={to or beside}")
    if config is None:
        return config_from_overrides(model, words)
    return load_section(config, model, words)


@command(
    "pano annotate walk.mp4 --config annotate.yaml follow.model.checkpoint=sam2.1_hiera_large.pt"
)
def annotate(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A picture, a video file, a folder of both, or a dataset.",
            parser=a_path,
        ),
    ],
    overrides: Overrides = None,
    config: ConfigOption = None,
    to: Annotated[Path | None, out_option("labels")] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            metavar="WORD",
            help="Every instance of this on the sphere, by SAM3; may be given several times.",
        ),
    ] = None,
    sam3: Annotated[
        Path | None,
        typer.Option(
            "--sam3",
            metavar="DIR",
            help="Of --text: the folder of SAM3's weights, as transformers reads it.",
            parser=a_path,
        ),
    ] = None,
) -> None:
    """Label panoramas and 360° videos with teachers: a dataset, LabelMe and COCO beside it.

    The same command again labels only what is missing. What a person should look at is listed in
    DIR/revise.json, the worst first.
    """
    from panoforge.cluster.config.labelling import AnnotateJobConfig
    from panoforge.stages import annotate_stage

    words = [*by_words(text, sam3, config, overrides), *(overrides or ())]
    job = job_of(AnnotateJobConfig, config, words, to, place.with_name(f"{place.name}.labels"))
    found = annotate_stage(job, place)
    for name, why in found.failures.items():
        warn(f"{name}: {why}", "not labelled:")
    for record in found.records:
        if record.ended:
            warn(f"{record.name}: {record.ended}", "ends early:")
        if record.checker_failure:
            warn(f"{record.name}: {record.checker_failure}", "went on without the checker:")
        shares = list(record.coverage.values())
        out.print(
            f"{record.name}: {counted(record.frames, 'frame')},"
            f" {counted(record.objects, 'object')}, coverage"
            f" {percent(sum(shares) / max(1, len(shares)))}"
        )
    if found.revise:
        out.print(f"{counted(len(found.revise), 'thing')} to look at, the worst first:")
    for one in found.revise[:SHOWN]:
        out.print(f"  {one.severity:.2f}  {one.item}, frame {one.frame}: {one.why}")
    out.print(str(found.report))
    if found.failures:
        raise DataError(
            f"{counted(len(found.failures), 'file')} could not be labelled, {len(found.records)}"
            " could: put right what is said above and give the same command again"
        )


@command("pano pseudolabel photos/ depth.kind=depth depth.folder=models/depth-anything")
def pseudolabel(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A picture, a folder of them, or a dataset.",
            parser=a_path,
        ),
    ],
    overrides: Overrides = None,
    config: ConfigOption = None,
    to: Annotated[Path | None, out_option("pseudolabels")] = None,
) -> None:
    """Depth, normals, classes and instances of panoramas by teachers, as a dataset to train on.

    Beside each product is a map of its confidence. The same command again labels what is missing.
    """
    from panoforge.cluster.config.labelling import PseudolabelJobConfig
    from panoforge.stages import pseudolabel_stage

    beside = place.with_name(f"{place.name}.pseudolabels")
    found = pseudolabel_stage(job_of(PseudolabelJobConfig, config, overrides, to, beside), place)
    for name, why in found.failures.items():
        warn(f"{name}: {why}", "not labelled:")
    for record in found.records:
        shares = ", ".join(f"{what} {percent(share)}" for what, share in record.confidence.items())
        out.print(f"{record.name}: {counted(record.views, 'view')}, confidence {shares}")
    out.print(str(found.dataset))
    if found.failures:
        raise DataError(
            f"{counted(len(found.failures), 'panorama')} could not be labelled,"
            f" {len(found.records)} could: put right what is said above and give the same command"
            " again"
        )
