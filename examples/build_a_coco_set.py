# %% [markdown]
# # Build a COCO set
#
# A dataset in COCO's form, checked by COCO's own reader. `pano export DATASET DIR --to coco` does
# the same from the command line; `--perspective` gives views of a scan instead of panoramas.

# %%
from pathlib import Path

from pycocotools.coco import COCO

import panoforge
from panoforge.core.export import export

dataset = panoforge.open_dataset("runs/demo/dataset")
export(dataset, "coco", "coco")

# %% [markdown]
# COCO's reader decodes every mask; areas are those of the label map.

# %%
files = sorted(Path("coco").rglob("*.json"))
print(*files, sep="\n")
annotations = next(path for path in files if path.parent.name == "annotations")
coco = COCO(annotations)
first = coco.loadAnns(coco.getAnnIds())[0]
print(len(coco.imgs), "pictures,", len(coco.anns), "instances,", len(coco.cats), "categories")
print(coco.cats[first["category_id"]]["name"], coco.annToMask(first).sum(), "pixels")
