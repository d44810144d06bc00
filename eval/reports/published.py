"""What others have published, as data for the report: numbers copied from their texts, never
reproduced here.

Each table says where it was read. A row is comparable with ours only on the same data and the same
protocol, and nobody publishes their prompts; the report says so above the tables.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedTable:
    """`rows` of text cells under `columns`, as printed in `source`; scores are percentages."""

    title: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


# The text of the paper that we could read has no tables: its numbers are as AIWalker's summary of
# it gives them.
_SAP = "SAP, arXiv 2603.12759, as summarised by AIWalker (“How SAP cuts 90 % compute …”)"
_PANOSAM2 = "PanoSAM2, arXiv 2604.07901"

# (label, mIoU, what it is): beside our own scores in the first table.
SAP_ON_PAV_SOD: tuple[tuple[str, float, str], ...] = (
    ("SAM2-L, direct", 0.583, "PAV-SOD, zero-shot"),
    ("SAM2-L + scan (SAM2-SCAN)", 0.678, "PAV-SOD, zero-shot; scanning only, not fine-tuned"),
    (
        "SAP-L",
        0.755,
        "PAV-SOD, zero-shot; fine-tuned on 183,440 synthetic panoramas with SA-1B and SA-V",
    ),
)
SAP_SOURCE = _SAP

TABLES: tuple[PublishedTable, ...] = (
    PublishedTable(
        "SAP: ablations",
        _SAP,
        ("what is changed", "mIoU"),
        (
            ("SAP-L as it is (perspective scan with overlap, mixed data)", "75.5"),
            ("patches of the ERP instead of perspective views", "70.2"),
            ("scanning without overlap", "69.8"),
            ("no scanning", "62.1"),
            ("synthetic data only", "54.0"),
        ),
    ),
    PublishedTable(
        "360VOTS test: video object segmentation from a first-frame mask",
        f"{_PANOSAM2}, Table 1",
        ("method", "backbone", "J&F", "J", "F"),
        (
            ("XMem", "ResNet-50", "65.0", "59.6", "70.3"),
            ("SAM2", "Hiera-T", "59.4", "53.9", "64.9"),
            ("SAM2", "Hiera-S", "60.2", "56.8", "63.6"),
            ("SAM2Long", "Hiera-S", "61.1", "57.5", "64.7"),
            ("PSCFormer-L*", "ResNet-50", "62.5", "58.8", "66.2"),
            ("PanoSAM2", "Hiera-T", "64.3", "59.2", "69.3"),
            ("PanoSAM2", "Hiera-S", "65.8", "59.9", "71.6"),
        ),
    ),
    PublishedTable(
        "360VOTS test: with views fitted to the target (BFoV)",
        f"{_PANOSAM2}, Table 10",
        ("method", "J&F", "J", "F", "frames/s"),
        (
            ("XMem", "65.0", "59.6", "70.3", "22.5"),
            ("XMem + BFoV", "72.6", "66.5", "78.6", "5.8"),
            ("SAM2, Hiera-S", "60.2", "56.8", "63.6", "39.3"),
            ("SAM2, Hiera-S + BFoV", "73.6", "69.4", "78.9", "5.5"),
            ("PanoSAM2, Hiera-S", "65.8", "59.9", "71.6", "29.2"),
        ),
    ),
    PublishedTable(
        "PanoVOS: J&F from a first-frame mask",
        f"{_PANOSAM2}, Table 2",
        ("method", "backbone", "validation", "test"),
        (
            ("XMem", "ResNet-50", "55.7", "53.5"),
            ("SAM2", "Hiera-T", "74.2", "70.6"),
            ("SAM2", "Hiera-S", "71.4", "69.3"),
            ("PSCFormer-L", "ResNet-50", "77.9", "59.9"),
            ("PanoSAM2", "Hiera-T", "76.1", "71.9"),
            ("PanoSAM2", "Hiera-S", "78.1", "73.4"),
        ),
    ),
    PublishedTable(
        "PanoVOS, zero-shot (trained on 360VOTS where trained)",
        f"{_PANOSAM2}, Table 3",
        ("method", "validation J&F", "J", "F", "test J&F", "J", "F"),
        (
            ("PerSAM", "19.1", "14.9", "23.5", "19.5", "15.6", "23.3"),
            ("SAM-PT", "47.5", "41.4", "53.7", "41.0", "35.7", "46.4"),
            ("XMem", "52.1", "46.9", "57.2", "44.4", "39.6", "49.1"),
            ("PSCFormer", "69.5", "62.4", "76.5", "64.1", "58.3", "69.9"),
            ("SAM2", "70.6", "63.4", "77.8", "66.3", "59.4", "73.2"),
            ("PanoSAM2", "71.3", "63.0", "79.5", "67.9", "61.6", "74.2"),
        ),
    ),
)
