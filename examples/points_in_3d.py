# %% [markdown]
# # A panorama's points in 3-D
#
# Depth is the distance along the ray of each pixel's centre. With the pose it is a point in the
# world. The convention stands in docs/reference/format.md.

# %%
from pathlib import Path

import numpy as np

import panoforge

sample = panoforge.open_dataset("runs/demo/dataset")[0]
rgb, depth_m, pose = sample.read("rgb"), sample.read("depth"), sample.meta.pose
height, width = depth_m.shape

# %% [markdown]
# Where each pixel looks: x right, y forward to the middle of the picture, z up.

# %%
row, column = np.mgrid[:height, :width]
longitude = ((column + 0.5) / width - 0.5) * 2 * np.pi
latitude = (0.5 - (row + 0.5) / height) * np.pi
rays = np.stack(
    [
        np.cos(latitude) * np.sin(longitude),
        np.cos(latitude) * np.cos(longitude),
        np.sin(latitude),
    ],
    axis=-1,
)

# %% [markdown]
# Sky is infinitely far and is left out. The rotation turns the panorama's frame into the world's.

# %%
there = np.isfinite(depth_m)
points = rays[there] * depth_m[there][:, None] @ np.array(pose.world_from_pano).T + pose.position_m
print(f"{len(points)} points from {points.min(0).round(2)} to {points.max(0).round(2)} m")

# %% [markdown]
# A PLY file opens in Blender, MeshLab and CloudCompare.

# %%
header = (
    f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    "property float x\nproperty float y\nproperty float z\n"
    "property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"
)
vertices = np.empty(len(points), [("xyz", "<f4", 3), ("rgb", "u1", 3)])
vertices["xyz"], vertices["rgb"] = points, rgb[there]
Path("points_in_3d.ply").write_bytes(header.encode() + vertices.tobytes())
print("open points_in_3d.ply")
