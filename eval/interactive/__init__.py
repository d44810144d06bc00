"""One picture and its clicks: `pano segment` and `pano serve`."""
