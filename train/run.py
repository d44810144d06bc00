"""`run_training`: what `pano train` calls. One config, one dataset, one folder.

    out/checkpoints/    resumable checkpoints, and model.pt in the official SAM2 format (and as
                        safetensors, with `export`)
    out/metrics.jsonl   one line per step
    out/pictures/       predictions every `picture_every` steps
    out/train.json      resolved config and its changes, versions, hardware, weights, dataset, and
                        in plain words what came out

Running it again goes on from the last checkpoint, longer or at other rates if asked to
(`panoforge.train.resume`), or returns at once when the run is finished. A first SIGINT or SIGTERM
stops it after the step that is running, with its state saved.
"""

from pathlib import Path

from panoforge.core.drain import Drain
from panoforge.core.storage.store import StoreLike
from panoforge.train.config import TrainConfig
from panoforge.train.distributed import World
from panoforge.train.rank import train_rank


def run_training(config: TrainConfig, dataset: StoreLike, out: Path) -> Path:
    """Train on `dataset` into `out`; gives the path of the exported weights (official format).

    Under torchrun this is one rank of a run, else all of it.
    """
    with Drain("stopping after this step") as drain:
        return train_rank(config, dataset, out, World.detect(), lambda: drain.asked)
