"""Views and back: how teachers see a panorama, and how what they say returns to the sphere."""
