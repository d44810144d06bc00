"""Other colours and other places in a scene that was generated once."""
