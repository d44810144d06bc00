"""Shards → fine-tuned SAM2: scan clips, the model, the losses, the trainer, the checkpoints.

In the order a step meets them:

- `config`: what a run is; `settings`: its sections.
- `data/plan`: which clip stands at which position, in integers only. `data/mixture`: which source.
- `data/clips`, `data/clicks`, `data/warp`: a plan becomes frames, masks and clicks.
- `data/sources`: the panorama shards and other datasets. `data/loader`: clips ahead of time.
- `model`: SAM2, its frozen parts, its weights in files. `losses`, `optim`.
- `trainer`: the loop. `validate`: mIoU on held-out clips. `log`.
- `checkpoints`, `mirror`, `resume`: a run that was stopped, and what may change when it goes on.
- `distributed`: several ranks. `rank`: one of them. `run`: what `pano train` calls for one process;
  `panoforge.cluster.ray.training` starts several, and so does torchrun.

The order of clips is a function of (seed, position), in `data/plan`. A position is the whole state:
a run resumes by computing, not by replaying, and any number of ranks reads one line. Samples come
through `Dataset.read`, by byte range from a disk or a bucket: two members of each, checked.
"""
