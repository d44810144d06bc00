# %% [markdown]
# # A video with flow
#
# `make demo-video` renders one. Ids last through the video, and flow says where what a pixel shows
# lies in the next frame.

# %%
import numpy as np

import panoforge

dataset = panoforge.open_dataset("runs/video/dataset")
video = dataset.video(dataset.videos["video"][0].as_py())
print(f"{video.meta.frames} frames at {video.meta.fps:g} a second")
for thing in video.meta.instances:
    print(thing.id, thing.category, thing.motion, "comes at", thing.entered, "goes at", thing.left)

# %% [markdown]
# Follow it for one frame: a pixel's place in the next one shows the same id, where it is visible.

# %%
now, then = (dataset.by_key(key) for key in video.frame_keys[:2])
flow = now.flow("forward")
ids, after = now.read("instance"), then.read("instance")
height, width = ids.shape
row, column = np.mgrid[:height, :width]
u = np.round(column + flow.displacement_px[..., 0])
v = np.round(row + flow.displacement_px[..., 1])
seen = (flow.state == 0) & np.isfinite(u) & (v >= 0) & (v < height) & (ids > 0)
landed = after[v[seen].astype(int), u[seen].astype(int) % width]
print(f"{(landed == ids[seen]).mean():.1%} of {seen.sum()} visible pixels show the same id")
