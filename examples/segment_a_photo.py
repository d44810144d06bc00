# %% [markdown]
# # Segment a photo
#
# An object of any panorama from clicks on the sphere, in degrees: longitude 0 is the middle of the
# picture, right is positive; latitude 90 is straight up.

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import panoforge

PICTURE, CHECKPOINT = Path("room.jpg"), Path("sam2.1_hiera_tiny.pt")
if not CHECKPOINT.exists():
    sys.exit(f"put SAM2's {CHECKPOINT} here, or name weights that pano train exported")

# %% [markdown]
# The frames of the scan are encoded once; a mask then takes the decoder only.

# %%
segmenter = panoforge.Segmenter(PICTURE, CHECKPOINT, size="tiny", image_size=64)
mask = segmenter.mask([(30.0, -10.0)], negative=[(-120.0, 0.0)])
print(f"{mask.mean():.1%} of the pixels")

# %%
picture = panoforge.load_panorama(PICTURE)
shown = np.where(mask[..., None], picture // 2 + np.array([0, 100, 0], np.uint8), picture)
plt.imsave("segment_a_photo.png", shown.astype(np.uint8))
print("look at segment_a_photo.png")
