"""Shards → fine-tuned SAM2: scan clips, the model, the losses, the trainer, the checkpoints.

Modules, in the order a step meets them: `config` (what a run is), `plan` (which clip stands at
which position: integers only), `clips` and `clicks` (plan → frames, masks, sphere clicks),
`sources` (other datasets as clips) and `mixture` (which source stands where), `loader` (clips ahead
of time), `model` and `scan_sam2` (SAM2, frozen parts), `lean` (what its dropout keeps), `loss` and
`mask_loss`, `optim`, `trainer` (the loop), `validate` (mIoU on held-out clips), `checkpoints`,
`log`, `world` and `launch` (several ranks), `run` (what `pano train` calls).

Why the order of clips is `panoforge.train.data.plan`'s and not that of
`panoforge.core.shards.Stream`: a stream deals single samples to ranks, and what is dealt here are
forward passes, of several sources with their own lengths (`mixture`), the same number to each rank,
of clips that visit a panorama `clips_per_panorama` times an epoch. A stream below that would keep a
second position, a second state and a second rule of who gets what, all to be undone again. Both
rest on the same ground: a position is the whole state, order and randomness are functions of (seed,
position), any number of ranks reads one line, and samples come through `Dataset.read`. What is
given up is the stream's window of shards: with a bucket, each panorama costs one request for the
bytes of its two members.
"""
