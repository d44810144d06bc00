"""SAM2 for training: built, loaded and checked, its lean and panoramic variants."""
