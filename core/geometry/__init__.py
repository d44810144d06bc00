"""The sphere: directions, pixels, views and scans; the one home of the pixel convention."""
