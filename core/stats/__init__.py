"""The dataset statistics report: what is in a dataset.

As numbers (report.json) and as a page (report.html).

Takes a published dataset, and the run.json beside it where there is one (for scenes that were
rejected or failed). Counts, areas, categories and boxes come from the index, whole columns at a
time. Occupancy, depth, luminance and look-alikes need the pixels: they come from one pass over the
samples, one panorama in memory per thread. So memory does not grow with the dataset but for the
index, and the same dataset gives the same numbers with any number of threads.

    stats = dataset_statistics(Path("runs/demo/dataset"))
    write_report(Path("runs/demo/dataset"), Path("runs/demo/stats"))

Modules: `model` (what report.json holds), `tables` (from the index), `pixels` (from the samples),
`charts`, `page`, `collect` (the pass over the dataset). Of videos: `videos` (from their metadata),
`played` (those that the page plays), `timelines`, `video_blocks`.
"""

from panoforge.core.stats.collect import Prices, dataset_statistics, write_report
from panoforge.core.stats.model import DatasetStats

__all__ = ["DatasetStats", "Prices", "dataset_statistics", "write_report"]
