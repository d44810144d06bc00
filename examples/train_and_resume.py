# %% [markdown]
# # Train, stop, resume
#
# A few steps of SAP's recipe at toy size, from random weights: it shows the machinery. The second
# call goes on from the last checkpoint.

# %%
import json
import subprocess
import sys
from pathlib import Path

Path("train.yaml").write_text(
    """
run: runs/toy
dataset: runs/demo/dataset
model: {size: micro, image_size: 64}
clip: {frames: 2, max_objects: 1}
prompt: {corrections: 1, max_prompted_frames: 1}
clips_per_step: 1
checkpoint_every: 2
device: cpu
"""
)


def train(*words: str) -> None:
    """The command, as one gives it in a shell."""
    subprocess.run([sys.executable, "-m", "panoforge", "train", "train.yaml", *words], check=True)


train("steps=2")

# %% [markdown]
# Lengthened: steps and rates may change, and `train.json` says so. Whatever else decides the
# weights is refused by the name of its key.

# %%
train("steps=4")
metrics = Path("runs/toy/metrics.jsonl").read_text()
steps = [json.loads(line)["step"] for line in metrics.splitlines()]
print("steps", steps)
print(Path("runs/toy/checkpoints/model.pt").stat().st_size, "bytes of weights")
