"""Verbs for one picture: segment, serve."""

from pathlib import Path
from typing import Annotated

import typer

from pano.cli.app import Overrides, app, out

Checkpoint = Annotated[Path | None, typer.Option(
    "--checkpoint", metavar="FILE", help="SAM2.1 weights, official or exported by pano train.")]
Model = Annotated[str, typer.Option("--model", help="What the weights are of: tiny, small, base_plus or large.")]
MethodOption = Annotated[str, typer.Option("--method", help="How the model sees the panorama: scan, scan_zoom, direct, …")]
PredictorOption = Annotated[str, typer.Option("--predictor", help="sam2, or truth: the masks of --labels, no model.")]
Labels = Annotated[Path | None, typer.Option("--labels", metavar="FILE", help="For truth: an id map, .png or instance.zst.")]


@app.command()
def segment(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An equirectangular JPEG or PNG, twice as wide as high.")],
    overrides: Overrides = None,
    click: Annotated[list[str] | None, typer.Option("--click", metavar="LON,LAT", help="A point on the object, degrees.")] = None,
    negative: Annotated[list[str] | None, typer.Option("--negative", metavar="LON,LAT", help="A point beside the object.")] = None,
    checkpoint: Checkpoint = None, model: Model = "large", method: MethodOption = "scan", predictor: PredictorOption = "sam2",
    labels: Labels = None,
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")] = Path("."),
) -> None:
    """Segment one object of a panorama from clicks: DIR/IMAGE.mask.png, .overlay.jpg and .coco.json.

    Longitude 0 is the middle of the picture, right is positive; latitude 90 is straight up. KEY=VALUE are config keys of
    pano eval, e.g. scan.overlap=0.3 device=cpu."""
    from eval.segment_image import load_predictor, segment_image
    from eval.segmenter import parse_click

    clicks = [*(parse_click(text) for text in click or ()), *(parse_click(text, positive=False) for text in negative or ())]
    loaded = load_predictor(predictor, checkpoint, method, [*(overrides or ()), f"model.size={model}"])
    out.print("\n".join(str(path) for path in segment_image(image, clicks, loaded, folder, labels)))
