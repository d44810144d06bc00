"""SAM2 for training: building it, loading and checking checkpoints, its lean and panoramic
variants.
"""
