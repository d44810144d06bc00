# %% [markdown]
# # Score and compare
#
# Two ways to show a panorama to a model, scored on the same prompts. Here ground truth stands in
# for a model, so that no weights are needed: what it lacks to 1 is lost by the way itself. With
# `predictor: sam2` and `model: {checkpoint: FILE}` it is a real score.

# %%
from pathlib import Path

import panoforge

for method in ("direct", "scan"):
    Path(f"{method}.yaml").write_text(
        f"""
run: runs/{method}
dataset: runs/demo/dataset
predictor: ground_truth
methods: [{method}]
model: {{size: tiny, image_size: 256}}
instances: {{max_per_panorama: 4}}
report_panoramas: 1
"""
    )
    found = panoforge.evaluate(f"{method}.yaml", "max_panoramas=2")
    print(method, found.folder)

# %% [markdown]
# One table, with 95 % intervals over panoramas, differences and p-values.
# `pano compare runs/direct runs/scan --format latex` writes it for a paper.

# %%
comparison = panoforge.compare("runs/direct", "runs/scan")
for line in comparison.lines:
    print(
        f"{line.method:8} mIoU {line.miou.value:.3f} ({line.miou.low:.3f} to {line.miou.high:.3f})"
    )
