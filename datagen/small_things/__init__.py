"""Small things from a library, put where a generated scene is bare."""
