"""The table that `pano eval` prints of a dense evaluation."""

from collections.abc import Mapping
from typing import Any

from panoforge.core.numbers import counted
from panoforge.eval.dense.report import COLUMNS, ROLES, value_text
from panoforge.eval.reports.text_table import columns
from panoforge.eval.scoring.metrics.places import WHOLE


def dense_lines(results: Mapping[str, Any]) -> list[str]:
    """The scores of whole panoramas, each pixel the same, as predicted."""
    lines: list[str] = []
    for task, heads in COLUMNS.items():
        entries = [
            entry
            for entry in results["scores"]
            if entry["task"] == task
            and entry["place"] == WHOLE
            and entry["weighting"] == "pixels"
            and entry["variant"] in ("", "metric")
        ]
        if not entries:
            continue
        rows = [[task, *(title for _, title, _ in heads)]]
        rows += [
            [
                ROLES[entry["role"]],
                *(value_text(entry["mean"].get(name), unit) for name, _, unit in heads),
            ]
            for entry in entries
        ]
        lines += columns(rows)
    data = results["dataset"]
    lines.append(
        f"{counted(data['panoramas'], 'panorama')} of {data['name']}, scored:"
        f" {results['model']['name']}, protocol {results['protocol_id']}; mIoU of all pixels,"
        " depth and normals by panorama, then averaged; the ceiling is the truth at the model's"
        " resolution"
    )
    said = {"Warning": "warning", "Left out": "left_out", "Void": "void"}
    lines += [f"{title}: {data[key]}" for title, key in said.items() if data.get(key)]
    return lines
