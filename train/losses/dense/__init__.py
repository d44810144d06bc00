"""The losses of dense tasks (MTPano's), each over the pixels whose truth is known."""
