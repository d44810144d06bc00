"""Shards → fine-tuned SAM2: scan clips, the model, the losses, the trainer, the checkpoints.

Modules, in the order a step meets them: `config` (what a run is), `plan` (which clip stands at which position: integers
only), `clips` and `clicks` (plan → frames, masks, sphere clicks), `sources` (other datasets as clips) and `mixture` (which
source stands where), `loader` (clips ahead of time), `model` and `scan_sam2` (SAM2, frozen parts),
`loss`, `optim`, `trainer` (the loop), `validate` (mIoU on held-out clips), `checkpoints`, `log`, `world` and `launch`
(several ranks), `run` (what `pano train` calls).
"""
