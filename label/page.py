"""SAM3 on the annotation page: it answers clicks in views near them, and carries masks along."""

from panoforge.core.errors import UsageError
from panoforge.core.types import Labels, Rgb
from panoforge.eval.interactive.near import FOV_DEG, NearSegmenter
from panoforge.eval.interactive.serve.opening import NEAR, Asked
from panoforge.eval.interactive.serve.predictors import Answering, Predictors, Steps
from panoforge.label.loading import sam3_following, sam3_of
from panoforge.label.video.sam3_clicks import Sam3Clicks


def sam3_predictors(asked: Asked) -> Predictors:
    """What answers with `--predictor sam3 --checkpoint FOLDER`.

    Raises:
        UsageError: the folder is not given, or something else that SAM3 has no use for is.
        DataError: it holds no SAM3 with a tracker.
        ConfigError: transformers is not installed.
    """
    folder = asked.checkpoint
    if folder is None or not folder.is_dir():
        raise UsageError(
            f"--predictor sam3: expected --checkpoint FOLDER, SAM3 as save_pretrained writes it,"
            f" got {folder or 'none'}"
        )
    method = None if asked.method == NEAR else asked.method
    given = {"--model": asked.model, "--labels": asked.labels, "--method": method}
    unused = [f"{option} {value}" for option, value in given.items() if value is not None]
    if unused := [*unused, *asked.overrides]:
        raise UsageError(f"{unused[0]} means nothing to --predictor sam3: leave it out")
    tracker = sam3_of(folder)
    following, clicks = sam3_following(tracker), Sam3Clicks(tracker.loaded)

    def build(rgb: Rgb, labels: Labels | None, steps: Steps) -> Answering:
        return NearSegmenter(rgb, clicks, tracker.size_px)

    words = f"{following.words}, one view of {FOV_DEG:.0f}° around the clicks"
    return Predictors(build, words, following, NEAR)
