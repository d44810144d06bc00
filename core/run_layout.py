"""Names of what lies in a run folder: the one home of them.

run/
  render.json  run.json  report.html     the render job's config, the record of stages, the report
  staged/KEY/                            panoramas, one folder each, before they are packed
  dataset/                               shards, index and manifest
  ledger/                                attempts at scenes, and the lease of the run's driver
  logs/SCENE.log  work/ATTEMPT/          what workers said; where they work
  stats/                                 the dataset's report
  eval/WHO-DATA-IDENTITY/  eval/latest   evaluations, one folder each, and a link to the last one
"""

from pathlib import Path

STAGED = "staged"
DATASET = "dataset"
LEDGER = "ledger"
LOGS = "logs"
WORK = "work"
STATS = "stats"
EVAL = "eval"

JOB_FILE = "render.json"  # the resolved config of the last `pano render`
RUN_FILE = "run.json"
REPORT_FILE = "report.html"


def begun(run: Path) -> bool:
    """Whether a training run has a checkpoint to go on from."""
    return (run / "checkpoints" / "latest").exists()
