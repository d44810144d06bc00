"""What differs between what is trained: SAM2 on clips, MTPano on panoramas.

The loop (`panoforge.train.trainer`) is one. A task has the model, its batches, its losses, its
optimizer and rates, and what is shown and measured on the way.
"""
