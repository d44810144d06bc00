"""Other colours, places and light in a scene that was generated once."""
