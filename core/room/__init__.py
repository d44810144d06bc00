"""A room that the package brings, so that there is something to look at before anything was made.

One panorama of the gallery, 1024×512, with its ids: a packed dataset like any other.
`docs/_site/gallery.py --room` made it from `configs/gallery/rooms.yaml`. Its kitchen is ours, of
Infinigen 1, and may be used under the licence of this project.
"""

from pathlib import Path

ROOM = Path(__file__).parent / "dataset"
