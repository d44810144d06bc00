"""Verbs of a dataset: pack, verify, stats, query, export."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from panoforge.cli.app import DatasetUrl, a_path, a_place, command, err, out
from panoforge.core.numbers import counted
from panoforge.core.run_layout import DATASET


@command("pano pack runs/a runs/b --to s3://bucket/dataset --prefix shard_bytes=256000000")
def pack(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN [KEY=VALUE]", help="Runs (folders or URLs), and keys."),
    ],
    to: Annotated[
        Any,
        typer.Option(
            "--to",
            metavar="DATASET",
            help="Folder or URL (default: RUN/dataset).",
            parser=a_place,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Ray tasks that build shards at once.")
    ] = None,
    prefix: Annotated[
        bool, typer.Option("--prefix", help="Put its run's name before every key.")
    ] = False,
) -> None:
    """Pack RUN/staged into RUN/dataset: shards, index, manifest.

    Keys: shard_bytes, splits, salt, ray. Several runs merge.
    """
    from panoforge.cluster.config.packing import PackConfig
    from panoforge.core.config import config_from_overrides
    from panoforge.stages import pack_stage

    overrides = [text for text in runs if re.match(r"[a-z_.]+=", text)] + (
        [f"workers={workers}"] if workers is not None else []
    )
    folders = [a_place(text) for text in runs if text not in overrides]
    manifest = pack_stage(folders, config_from_overrides(PackConfig, overrides), to, prefix=prefix)
    out.print(
        f"{counted(manifest.samples, 'panorama')} with {counted(manifest.instances, 'instance')},"
        f" {counted(len(manifest.shards), 'shard')}: {to or f'{folders[0]}/{DATASET}'}"
    )


@command("pano verify runs/demo/dataset --deep")
def verify(
    dataset: DatasetUrl,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print {samples, faults} as JSON.")
    ] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Decode every product, not only metadata and label maps.")
    ] = False,
    rays: Annotated[
        int,
        typer.Option(
            "--rays",
            min=0,
            metavar="N",
            help="DATASET is a run: check N pixels against rays instead.",
        ),
    ] = 0,
) -> None:
    """Check every digest, every schema, every label map of a dataset.

    Exit code 1 with the list of faults. With --rays, make the scenes of a run again and compare
    rendered ids with independently cast rays.
    """
    if rays:
        return _verify_rays(Path(dataset), rays, as_json)
    from panoforge.stages import verify_stage

    report = verify_stage(dataset, deep=deep)
    if as_json:
        print(
            json.dumps(
                {"samples": report.samples, "faults": [vars(fault) for fault in report.faults]}
            )
        )
    else:
        for fault in report.faults:
            out.print(f"{fault.file}: {fault.sample or '(no sample)'}: {fault.what}")
        out.print(f"{counted(report.samples, 'sample')}, {counted(len(report.faults), 'fault')}")
    if report.faults:
        raise typer.Exit(1)


def _verify_rays(run: Path, rays: int, as_json: bool) -> None:
    from panoforge.cluster.render.verify_rays import verify_by_rays

    report = verify_by_rays(run, rays)
    print(json.dumps(report.as_json()) if as_json else "\n".join(report.as_lines()))
    if not report.ok:
        raise typer.Exit(1)


@command("pano stats runs/demo/dataset --out runs/demo/stats")
def stats(
    dataset: DatasetUrl,
    folder: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", help="Where report.html and report.json go.", parser=a_path
        ),
    ],
    core_hour: Annotated[
        float, typer.Option("--usd-per-core-hour", min=0, help="For the price per 1,000 panoramas.")
    ] = 0.04,
    gpu_hour: Annotated[
        float, typer.Option("--usd-per-gpu-hour", min=0, help="The same, of a GPU's hour.")
    ] = 0.0,
) -> None:
    """Describe a dataset: DIR/report.html and DIR/report.json."""
    from panoforge.stages import stats_stage

    out.print(str(stats_stage(dataset, folder, core_hour, gpu_hour)))


@command("pano query runs/demo/dataset \"category == 'sofa'\" --extract sofas --products rgb")
def query(
    dataset: DatasetUrl,
    expression: Annotated[
        str, typer.Argument(metavar="EXPRESSION", help="e.g. \"category == 'sofa' and sr > 0.01\"")
    ],
    split: Annotated[str | None, typer.Option("--split", help="Look in this split only.")] = None,
    folder: Annotated[
        Any,
        typer.Option(
            "--extract",
            metavar="DIR",
            help="Write the samples' members there, a folder or a URL.",
            parser=a_place,
        ),
    ] = None,
    products: Annotated[
        str | None, typer.Option("--products", help="Which products to extract, e.g. rgb,instance.")
    ] = None,
) -> None:
    """List the samples that match an expression over the index; extract them by byte range."""
    from panoforge.core.shards.query import extract, find
    from panoforge.core.shards.read import Dataset

    opened = Dataset.open(dataset, split)
    matches = find(opened, expression)
    out.print("\n".join(matches.keys))
    err.print(f"{len(matches.keys)} of {counted(len(opened), 'sample')}")
    if folder:
        written = extract(
            opened, matches.keys, folder, tuple(products.split(",")) if products else None
        )
        err.print(f"{counted(len(written), 'file')} in {folder}")


@command("pano export runs/demo/dataset coco --to coco")
def export(
    dataset: DatasetUrl,
    folder: Annotated[
        Any,
        typer.Argument(metavar="DIR", help="A new folder, or the URL of one.", parser=a_place),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="coco, yolo-seg, sa1b, mask2former-panoptic, labelme, sav, davis, ytvis, panovos,"
            " 360vos, 360vot, mp4 or hf.",
        ),
    ],
    split: Annotated[str | None, typer.Option("--split", help="Export this split only.")] = None,
    perspective: Annotated[
        bool,
        typer.Option(
            "--perspective", help="Scan views (90°, 50 %) instead of panoramas; videos always are."
        ),
    ] = False,
    min_iou: Annotated[
        float,
        typer.Option(
            "--min-iou",
            help="yolo-seg: leave out instances that its polygon gives back with a lower IoU.",
        ),
    ] = 0.0,
    workers: Annotated[
        int,
        typer.Option("--workers", min=1, help="Processes; the bytes are the same for any number."),
    ] = 1,
    name: Annotated[str, typer.Option("--name", help="hf: what the dataset is called.")] = "",
    license: Annotated[
        str, typer.Option("--license", help="hf: an SPDX identifier, e.g. cc-by-4.0, or other.")
    ] = "",
    repo: Annotated[
        str, typer.Option("--repo", metavar="OWNER/NAME", help="hf: where it will be on the Hub.")
    ] = "",
) -> None:
    """Write a dataset in a format that other tools read."""
    from panoforge.core.cards import CardOptions
    from panoforge.core.export import FORMATS, ExportOptions, check_export
    from panoforge.core.export import export as write_export
    from panoforge.core.geometry.scan import ScanSpec
    from panoforge.core.progress import Progress
    from panoforge.core.shards.read import Dataset

    opened = Dataset.open(dataset, split)
    is_video = to in FORMATS and FORMATS[to].scan is not None  # of its format's own scan
    views = ScanSpec() if perspective and not is_video else None
    card = CardOptions(name, license, repo=repo) if name or license or repo else None
    options = ExportOptions(perspective=views, min_iou=min_iou, card=card)
    check_export(to, folder, options)
    with Progress("export", total=len(opened)) as progress:
        facts = write_export(
            opened, to, folder, options, workers=workers, on_sample=lambda key: progress.advance()
        )
    _say_cost(facts)
    out.print(str(folder))


def _say_cost(facts: dict[str, Any]) -> None:
    """What a format with loss did to the masks, in all and per category, worst first."""
    if "cost" not in facts:
        return
    cost, minimum = facts["cost"], facts["min_iou"]
    left_out = f"; {cost['left_out']} left out below {minimum:g}" if minimum else ""
    err.print(
        f"{facts['format']}: read back, masks have a mean IoU of {cost['mean_iou']:.3f} with the"
        f" true ones; {cost['below_half']} of {counted(cost['instances'], 'instance')} are below"
        f" 0.5{left_out}"
    )
    table = Table("category", "instances", "mean IoU", "worst", "below 0.5", "left out", box=None)
    rows = sorted(facts["cost_by_category"].items(), key=lambda item: item[1]["mean_iou"])
    for name, row in rows:
        if row["worst_iou"] < 1:
            figures = f"{row['mean_iou']:.3f}", f"{row['worst_iou']:.3f}", str(row["below_half"])
            table.add_row(Text(name), str(row["instances"]), *figures, str(row["left_out"]))
    if table.rows:
        err.print(table)
        if not minimum:
            err.print("--min-iou 0.5 leaves out what the format holds badly; all is in export.json")


@command("pano repair runs/demo/dataset")
def repair(
    dataset: DatasetUrl,
    deep: Annotated[
        bool, typer.Option("--deep", help="Decode every product, not only metadata and label maps.")
    ] = False,
) -> None:
    """Rebuild a lost index or manifest, and move damaged samples to quarantine.

    They go to DATASET/quarantine, with a list of scenes to render again.
    """
    from panoforge.stages import repair_stage

    report = repair_stage(dataset, deep=deep)
    for part in report.damaged:
        out.print(f"{part.key or '(no sample)'}: {'; '.join(part.faults)}")
    for name in report.written:
        err.print(f"written: {name}")
    if report.scenes:
        err.print(
            f"{counted(len(report.scenes), 'scene')} to render again: see"
            f" {dataset}/quarantine/rerender.txt"
        )
    what = "repaired" if report.written or report.removed else "nothing to repair"
    out.print(
        f"{counted(report.samples, 'sample')}, {counted(len(report.damaged), 'damaged part')} in"
        f" quarantine: {what}"
    )


@command("pano card runs/demo/dataset --name rooms --license cc-by-4.0")
def card(
    dataset: DatasetUrl,
    name: Annotated[str, typer.Option("--name", help="What the dataset is called.")],
    license: Annotated[
        str, typer.Option("--license", help="An SPDX identifier, e.g. cc-by-4.0, or other.")
    ],
    url: Annotated[str, typer.Option("--url", help="Where it will be found.")] = "",
    creator: Annotated[str, typer.Option("--creator", help="Who made it.")] = "panoforge",
    published: Annotated[
        str, typer.Option("--published", metavar="DATE", help="When, YYYY-MM-DD.")
    ] = "",
    repo: Annotated[
        str, typer.Option("--repo", metavar="OWNER/NAME", help="Where it is on the Hub.")
    ] = "",
) -> None:
    """Write DATASET/README.md (Hugging Face) and DATASET/croissant.json, filled from the index."""
    from panoforge.core.cards import CARD_NAMES, CardOptions, write_cards
    from panoforge.core.shards.read import Dataset

    options = CardOptions(name, license, url, creator, published, repo)
    for written in write_cards(Dataset.open(dataset), options):
        if written in CARD_NAMES:
            out.print(f"{dataset}/{written}")
        else:
            err.print(f"what stood there before is kept: {dataset}/{written}")
