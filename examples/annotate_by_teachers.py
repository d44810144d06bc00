# %% [markdown]
# # Annotate by teachers
#
# Teachers propose masks and names, what they agree on becomes labels, and a list says what a person
# should look at. Here truth with stated faults stands in for teachers, so that no weights are
# needed. Real ones are `{kind: sam2, model: {checkpoint: FILE, size: large}}` and
# `{kind: panoptic, folder: DIR}`.

# %%
import json
import subprocess
import sys
from pathlib import Path

Path("annotate.yaml").write_text(
    """
entities:
  - {kind: noisy_truth, name: masks, noise: {missing: 0.1, seed: 1}}
panoptic:
  - {kind: noisy_truth, name: first, noise: {missing: 0.1, mislabelled: 0.1, seed: 2}}
  - {kind: noisy_truth, name: second, noise: {missing: 0.1, mislabelled: 0.1, seed: 3}}
follow: {kind: noisy_truth}
views: {kind: cube, size_px: 128}
"""
)
command = [sys.executable, "-m", "panoforge", "annotate", "runs/demo/dataset"]
subprocess.run([*command, "--config", "annotate.yaml", "--out", "labels"], check=True)

# %% [markdown]
# The labels are a dataset like any other, with LabelMe and COCO beside it.

# %%
import panoforge

labels = panoforge.open_dataset("labels/dataset")
print(len(labels), "panoramas,", labels.instances().num_rows, "instances")
revise = json.loads(Path("labels/revise.json").read_text())
print("what a person should look at:", json.dumps(revise)[:200])
