"""Array types with their shapes, in jaxtyping's notation: what a signature says an array holds.

`Rgb` and the like are pictures, indexed row, column. `Bools`, `Floats`, `Ints` have any shape,
which the docstring then says. Type checkers see numpy arrays; at run time these are only names.
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8, UInt16

Rgb: TypeAlias = UInt8[np.ndarray, "height width 3"]  # sRGB
Labels: TypeAlias = UInt16[np.ndarray, "height width"]  # instance ids, 0 = nothing
Mask: TypeAlias = Bool[np.ndarray, "height width"]
MaskStack: TypeAlias = Bool[np.ndarray, "masks height width"]
SegmentIds: TypeAlias = Int32[np.ndarray, "height width"]  # of one answer, 0 = nothing
Values: TypeAlias = Float32[np.ndarray, "height width"]  # one number a pixel
ClassMaps: TypeAlias = Float32[np.ndarray, "classes height width"]  # one map of scores a class
Depth: TypeAlias = Float32[np.ndarray, "height width"]  # metres along the ray, +inf = sky
Normals: TypeAlias = Float32[np.ndarray, "height width 3"]  # world frame
Matrix: TypeAlias = Float64[np.ndarray, "3 3"]  # columns are the axes of a frame
OctahedralCodes: TypeAlias = UInt16[np.ndarray, "height width 2"]  # of directions, 0 0 = none
IdMap: TypeAlias = Int64[np.ndarray, "height width"]  # ids as somebody's file has them
RunLengths: TypeAlias = Int64[np.ndarray, " runs"]  # COCO's, of 0 and 1 in turn
LonLatPath: TypeAlias = Float64[np.ndarray, "points 2"]  # longitude and latitude in radians
Bools: TypeAlias = Bool[np.ndarray, "..."]
Floats: TypeAlias = Float64[np.ndarray, "..."]
Ints: TypeAlias = Int64[np.ndarray, "..."]
