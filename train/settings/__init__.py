"""The sections of a training config: clips, the model, the losses."""
