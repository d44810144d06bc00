# %% [markdown]
# # Look at a dataset
#
# What is in a dataset of panoforge: its samples, its instances as a table, a panorama with its ids.
# `make demo` makes one; any other does too, a folder or an `s3://` URL.

# %%
import matplotlib.pyplot as plt
import numpy as np

import panoforge

dataset = panoforge.open_dataset("runs/demo/dataset")
print(f"{len(dataset)} samples in splits {dataset.manifest.splits}")

# %% [markdown]
# The index answers without reading a single shard. `instances` is an Arrow table.

# %%
table = dataset.instances()
print(table.schema.names)
areas = table["area_sr"].to_numpy()
print(f"{table.num_rows} instances, median {np.median(areas):.4f} sr of {4 * np.pi:.2f}")
for category, count in sorted(
    zip(*np.unique(table["category"].to_pylist(), return_counts=True), strict=True),
    key=lambda pair: -pair[1],
)[:5]:
    print(f"{count:6} {category}")

# %% [markdown]
# One sample: colours, ids and depth, each checked against its digest.

# %%
sample = dataset[0]
rgb, ids = sample.read("rgb"), sample.read("instance")
depth_m = sample.read("depth")
colours = np.random.default_rng(0).integers(60, 255, (int(ids.max()) + 1, 3), dtype=np.uint8)
colours[0] = 0

figure, axes = plt.subplots(3, 1, figsize=(8, 12))
for axis, picture, title in zip(
    axes,
    (rgb, colours[ids], np.where(np.isfinite(depth_m), depth_m, np.nan)),
    (sample.meta.key, f"{len(sample.meta.instances)} ids", "depth along the ray, m"),
    strict=True,
):
    axis.imshow(picture)
    axis.set_title(title)
    axis.set_axis_off()
figure.savefig("look_at_a_dataset.png")
print("look at look_at_a_dataset.png")
