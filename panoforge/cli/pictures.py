"""Verbs for one picture: preview, segment, predict, serve."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from panoforge.cli.app import Overrides, a_path, a_place, command, err, out, warn

if TYPE_CHECKING:
    from panoforge.eval.interactive.serve.opening import Asked
    from panoforge.eval.interactive.serve.predictors import Predictors

CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="FILE",
        help="SAM2.1 weights, official or exported by pano train.",
        parser=a_path,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", help="What the weights are of: tiny, small, base_plus or large (the default)."
    ),
]
RANDOM_WEIGHTS = "these are masks of random weights, which say nothing of a trained model"
MethodOption = Annotated[
    str,
    typer.Option("--method", help="How the model sees the panorama: scan, scan_zoom, direct, …"),
]
PredictorOption = Annotated[
    str, typer.Option("--predictor", help="sam2, or truth: the masks of --labels, no model.")
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="For truth: an id map, .png or instance.zst.",
        parser=a_path,
    ),
]


@command("pano preview runs/demo/dataset --out look")
def preview(
    dataset: Annotated[
        Any,
        typer.Argument(
            metavar="[DATASET]",
            help="A folder or a URL; the sample room of the package without.",
            parser=a_place,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="[KEY]",
            help="A sample, or a video for a strip of its frames; the first one without.",
        ),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the files go.", parser=a_path)
    ] = Path("."),
    width: Annotated[
        int, typer.Option("--width", min=64, max=16384, help="Pixels of the widest picture.")
    ] = 1024,
) -> None:
    """Write one panorama of a dataset as pictures: ids, depth, normals, flow, and a page.

    The page DIR/KEY.html shows it in a 360° view, and its points in space.
    """
    from panoforge.core.preview import preview as write_preview
    from panoforge.core.room import ROOM
    from panoforge.core.shards.read import Dataset

    paths = write_preview(Dataset.open(dataset or ROOM), key, folder, width)
    out.print("\n".join(map(str, paths)))


@command("pano segment room.jpg --checkpoint model.pt --model tiny --click 30,-12.5")
def segment(
    image: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE",
            help="An equirectangular picture, twice as wide as high.",
            parser=a_path,
        ),
    ],
    overrides: Overrides = None,
    click: Annotated[
        list[str] | None,
        typer.Option("--click", metavar="LON,LAT", help="A point on the object, degrees."),
    ] = None,
    negative: Annotated[
        list[str] | None,
        typer.Option("--negative", metavar="LON,LAT", help="A point beside the object."),
    ] = None,
    checkpoint: CheckpointOption = None,
    model: ModelOption = None,
    method: MethodOption = "scan",
    predictor: PredictorOption = "sam2",
    labels: LabelsOption = None,
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the files go.", parser=a_path)
    ] = Path("."),
) -> None:
    """Segment one object of a panorama from clicks.

    Writes DIR/IMAGE.mask.png, .overlay.jpg and .coco.json; IMAGE-2 … beside an earlier result.

    Longitude 0 is the middle of the picture, right is positive; latitude 90 is straight up.
    KEY=VALUE are config keys of pano eval, e.g. scan.overlap=0.3 device=cpu.
    """
    from panoforge.eval.interactive.clicks import parse_click
    from panoforge.eval.interactive.segment_image import Loaded, load_predictor, segment_image

    clicks = [
        *(parse_click(text) for text in click or ()),
        *(parse_click(text, positive=False) for text in negative or ()),
    ]

    def loaded() -> Loaded:
        found = load_predictor(predictor, checkpoint, method, overrides or (), model)
        if predictor == "sam2" and found.config.model.checkpoint == "random":
            warn(RANDOM_WEIGHTS)
        return found

    paths = segment_image(image, clicks, loaded, folder, labels)
    out.print("\n".join(map(str, paths)))


@command("pano predict room.jpg --checkpoint model.pt --out predictions")
def predict(
    image: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE",
            help="An equirectangular picture, twice as wide as high.",
            parser=a_path,
        ),
    ],
    checkpoint: Annotated[
        Path,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            help="A model.pt that pano train wrote from a config with dense tasks.",
            parser=a_path,
        ),
    ],
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where the model runs.")
    ] = "auto",
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the files go.", parser=a_path)
    ] = Path("."),
) -> None:
    """Predict depth, normals and classes of a panorama.

    Writes DIR/IMAGE.dense: maps, pictures of them, and points.ply, a point cloud. DIR/staged/IMAGE
    is a sample for pano pack, and its instance.zst for pano segment --predictor truth --labels.
    """
    from panoforge.core.foreign.pictures import read_placed

    read_placed(image)  # what is no panorama is refused before torch and the model are loaded
    from panoforge.eval.dense.model import DenseModel
    from panoforge.eval.dense.predict import predict_image

    paths = predict_image(image, DenseModel.load(checkpoint, device), folder)
    out.print("\n".join(map(str, paths)))


@command("pano serve photos/ --checkpoint model.pt --model tiny")
def serve(
    place: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PLACE]",
            help="A folder of panoramas, videos and folders of frames, a dataset, or one of these;"
            " more can be dropped. The sample room of the package without.",
            parser=a_path,
        ),
    ] = None,
    overrides: Overrides = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            metavar="DIR",
            help="Where the work is kept; without it PLACE.annotations, or pano-annotations.",
            parser=a_path,
        ),
    ] = None,
    checkpoint: CheckpointOption = None,
    model: ModelOption = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="How SAM2 sees the panorama: near (one view around the clicks, the default), scan,"
            " direct, … as in pano segment.",
        ),
    ] = None,
    predictor: Annotated[
        str | None,
        typer.Option(
            "--predictor",
            help="sam2 (with --checkpoint), sam3 (with --checkpoint FOLDER), demo (what pano demo"
            " trained), truth (--labels, or a dataset's), or edges: follows colours and edges, no"
            " weights.",
        ),
    ] = None,
    labels: LabelsOption = None,
    video: Annotated[
        bool, typer.Option("--video", help="PLACE is one video: a folder of its frames.")
    ] = False,
    host: Annotated[
        str,
        typer.Option("--host", help="Where to listen; other than loopback a token is asked for."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")
    ] = 8360,
    max_upload_mb: Annotated[
        int, typer.Option("--max-upload-mb", min=1, help="The largest picture that may be dropped.")
    ] = 64,
) -> None:
    """Open a local page to annotate panoramas, alone or with others.

    Look around, click, brush, draw polygons, import and save masks. All work is kept as it is done.
    KEY=VALUE as in pano segment.
    """
    from panoforge.eval.interactive.serve.opening import Asked, opened, with_sample

    if place is not None and "=" in place.name and not place.exists():  # KEY=VALUE comes first
        place, overrides = None, [str(place), *(overrides or ())]
    asked = Asked(
        place=place,
        work=work,
        predictor=predictor,
        checkpoint=checkpoint,
        model=model,
        method=method,
        overrides=tuple(overrides or ()),
        labels=labels,
        host=host,
        port=port,
        max_upload_bytes=max_upload_mb * 10**6,
        video=video,
    )
    asked = with_sample(asked)
    if "model.checkpoint=random" in asked.overrides:
        warn(RANDOM_WEIGHTS)
    with opened(asked, {"sam3": _sam3}) as server:
        if server.token:
            warn(
                "not only this machine can reach it; whoever has this address can use it,"
                " unencrypted"
            )
        err.print(f"work is kept in {asked.work_folder}")
        print(server.url, flush=True)
        server.serve_forever()


def _sam3(asked: "Asked") -> "Predictors":
    """Labelling knows SAM3, and the page does not know labelling."""
    from panoforge.label.page import sam3_predictors

    return sam3_predictors(asked)
