"""MoGe, if it is installed: depth and normals of a view whose field of view we know.

MoGe 2 (arXiv 2507.02546) is on no package index: its users install it from its repository. It says
metres and normals. Written from its documentation; no test here has met it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from panoforge.core.errors import ConfigError, DataError, one_line
from panoforge.label.teachers.base import Dense, DepthMap, ViewImage, camera_of
from panoforge.label.teachers.transformers_folder import file_digest


@dataclass(frozen=True)
class MogeTeacher:
    """Depth along the axis, and normals where the model has them."""

    model: Any
    digest: str
    device: torch.device
    name: str = "moge"

    @staticmethod
    def load(file: Path, device: torch.device, *, name: str = "moge") -> "MogeTeacher":
        """Load a checkpoint.

        Raises:
            ConfigError: MoGe is not installed.
            DataError: The file is none of its checkpoints.
        """
        try:
            from moge.model.v2 import MoGeModel
        except ImportError:
            raise ConfigError(
                f"the teacher {name!r} needs MoGe 2, which is not installed here: install"
                " it from its authors' repository (github.com/microsoft/MoGe), or name another"
                " teacher of depth"
            ) from None
        if not file.is_file():
            raise DataError(f"{file} is no file: expected a checkpoint of MoGe (model.pt)")
        try:
            torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            model = MoGeModel.from_pretrained(str(file)).to(device).eval()
        except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            raise DataError(f"{file} is no checkpoint of MoGe: {one_line(error)}") from None
        return MogeTeacher(model, file_digest(file), device, name)

    def dense(self, view: ViewImage) -> Dense:
        """Depth and normals of one view; what it masks out is sky."""
        picture = torch.tensor(view.rgb.transpose(2, 0, 1) / 255, dtype=torch.float32)
        with torch.inference_mode():
            said = self.model.infer(picture.to(self.device), fov_x=camera_of(view.frame).fov_deg)
        depth = np.asarray(said["depth"].float().cpu().numpy(), np.float32)
        seen = np.isfinite(depth) & (depth > 0)
        if "mask" in said:
            seen &= said["mask"].cpu().numpy().astype(bool)
        normals = said.get("normal")
        if normals is not None:
            normals = np.asarray(normals.float().cpu().numpy(), np.float32)
            normals = np.where(seen[..., None] & np.isfinite(normals), normals, 0)
            length = np.linalg.norm(normals, axis=-1, keepdims=True)
            normals = np.where(length > 0, normals / np.maximum(length, 1e-9), 0)
            normals = normals.astype(np.float32)
        values = np.where(seen, depth, np.inf).astype(np.float32)
        return Dense(DepthMap(values, "axis", "metres"), normals)
