"""Shards → fine-tuned SAM2, or MTPano: clips, models, losses, the trainer, the checkpoints.

In the order a step meets them:

- `config`: what a run is; `settings`: its sections.
- `data/plan`: which clip stands at which position, in integers only. `data/mixture`: which source.
- `data/clips`, `data/clicks`, `data/warp`: a plan becomes frames, masks and clicks.
- `data/sources`: the panorama shards and other datasets. `data/loader`: clips ahead of time.
- `data/panoramas`, `data/dense_source`: whole panoramas with their dense truth, for MTPano.
- `model`: SAM2 and MTPano, their frozen parts, their weights in files. `losses`, `optim`.
- `tasks`: what differs between the two. `trainer`: the loop. `stops`: why it ends early.
- `validate`, `dense_validate`: scores on held-out data. `log`.
- `checkpoints`, `mirror`, `resume`: a run that was stopped, and what may change when it goes on.
- `distributed`: several ranks. `rank`: one of them. `run`: what `pano train` calls for one process;
  `panoforge.cluster.ray.training` starts several, and so does torchrun.

The order of clips is a function of (seed, position), in `data/plan`. A position is the whole state:
a run resumes by computing, not by replaying, and any number of ranks reads one line. Samples come
through `Dataset.read`, by byte range from a disk or a bucket: two members of each, checked.
"""
