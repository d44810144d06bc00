"""The independent judge: rays against the scene as its source made it."""
