"""Prompts → scan → SAM2 → merged masks → scores."""
