"""What others have published, as data for the report.

Numbers copied from their texts, never reproduced here.

Each table says where it was read. A row is comparable with ours only on the same data and the same
protocol, and nobody publishes their prompts; the report says so above the tables.
"""

from dataclasses import dataclass

from panoforge.core.report.page import Table


@dataclass(frozen=True)
class PublishedTable:
    """`rows` of text cells under `columns`, as printed in `source`; scores are percentages."""

    title: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def block_of(table: PublishedTable) -> Table:
    """The table as a block of a report, its source below."""
    return Table(
        table.columns,
        table.rows,
        caption=f"{table.title}. Published, not reproduced. Source: {table.source}.",
    )


# The text of the paper that we could read has no tables. Its numbers come from two kinds of
# secondary sources, which do not agree: both are shown, each with its source.
_SUMMARY = "SAP, arXiv 2603.12759, as summarised by AIWalker (“How SAP cuts 90 % compute …”)"
_NOTES = "secondary: three public note files on SAP, arXiv 2603.12759, that agree; not the authors'"
_PANOSAM2 = "PanoSAM2, arXiv 2604.07901"

# (label, mIoU, what it is): beside our own scores in the first table. The summary calls the first
# three "Large", but they are means over SAM2's four sizes: 75.5 − 58.3 is 17.2, the mean gain over
# the sizes, and the note files print other numbers for large alone.
_OF_SIZES = "PAV-SOD, zero-shot, mean of four sizes (inferred); from the summary"
_OF_LARGE = "PAV-SOD, zero-shot, 1 click; from the notes"
SAP_ON_PAV_SOD: tuple[tuple[str, float, str], ...] = (
    ("SAM2, direct, mean of sizes", 0.583, _OF_SIZES),
    ("SAM2 + scan, mean of sizes", 0.678, f"{_OF_SIZES}; not fine-tuned"),
    ("SAP, mean of sizes", 0.755, f"{_OF_SIZES}; fine-tuned on 183,440 panoramas, SA-1B, SA-V"),
    ("SAM2-L, direct", 0.663, _OF_LARGE),
    ("SAM2-L + scan", 0.690, f"{_OF_LARGE}; not fine-tuned"),
    ("SAP-L", 0.773, f"{_OF_LARGE}; fine-tuned"),
)
SAP_SOURCE = f"{_SUMMARY}; {_NOTES}"
SAP_SOURCES = (f"[S] {_SUMMARY}; its text alone is at hand", f"[N] {_NOTES}")

# SAP's own table as far as it is known: label, 1 click (3 clicks), small, medium and large with one
# click, seam/pole subset, source. “–”: not known.
_UNKNOWN = ("–", "–", "–")
SAP_ROWS: tuple[tuple[str, str, tuple[str, str, str], str, str], ...] = (
    ("PAV-SOD: SAM2, direct, mean of sizes", "58.3", _UNKNOWN, "–", "[S]"),
    ("PAV-SOD: SAM2 + scan, mean of sizes", "67.8", _UNKNOWN, "–", "[S]"),
    ("PAV-SOD: SAP, mean of sizes", "75.5", _UNKNOWN, "–", "[S]"),
    ("PAV-SOD: SAM2-tiny, direct", "51.6 (82.2)", ("46.3", "55.5", "49.1"), "–", "[N] secondary"),
    ("PAV-SOD: SAM2-tiny + scan", "65.1 (83.0)", _UNKNOWN, "–", "[N] secondary"),
    ("PAV-SOD: SAP-tiny", "75.8 (84.8)", ("53.9", "76.6", "79.7"), "–", "[N] secondary"),
    ("PAV-SOD: SAM2-large, direct", "66.3 (84.3)", ("50.7", "71.9", "64.4"), "–", "[N] secondary"),
    ("PAV-SOD: SAM2-large + scan", "69.0 (84.1)", _UNKNOWN, "–", "[N] secondary"),
    ("PAV-SOD: SAP-large", "77.3 (86.1)", ("61.1", "76.2", "81.7"), "–", "[N] secondary"),
    ("PAV-SOD, 76 at seam or pole: SAM2, direct", "–", _UNKNOWN, "46.1", "[N] secondary"),
    ("PAV-SOD, 76 at seam or pole: SAM2 + scan", "–", _UNKNOWN, "53.8", "[N] secondary"),
    ("PAV-SOD, 76 at seam or pole: SAP", "–", _UNKNOWN, "68.2", "[N] secondary"),
    ("HunyuanWorld: SAM2-large, direct", "70.8 (82.1)", _UNKNOWN, "–", "[N] secondary"),
    ("HunyuanWorld: SAP-large", "77.4 (88.3)", _UNKNOWN, "–", "[N] secondary"),
    ("Infinigen, held out: SAM2-large, direct", "62.8 (81.4)", _UNKNOWN, "–", "[N] secondary"),
    ("Infinigen, held out: SAP-large", "81.9 (89.0)", _UNKNOWN, "–", "[N] secondary"),
)

TABLES: tuple[PublishedTable, ...] = (
    PublishedTable(
        "SAP: ablations, mIoU with one click; the two sources disagree",
        f"the summary: {_SUMMARY}; the notes: {_NOTES}",
        ("what is changed", "the summary", "the notes, large"),
        (
            ("as it is (perspective scan with overlap, mixed data)", "75.5", "77.3"),
            ("patches of the ERP instead of perspective views", "70.2", "72.6"),
            ("scanning without overlap", "69.8", "66.5"),
            ("no scanning", "62.1", "73.0"),
            ("synthetic data only", "54.0", "67.3"),
            ("SAM2's own data only", "–", "60.0"),
        ),
    ),
    PublishedTable(
        "SAP: PAV-SOD, zero-shot mIoU with 1 click (3 clicks)",
        _NOTES,
        ("size", "SAM2 direct", "SAM2 + scan", "SAP"),
        (
            ("tiny", "51.6 (82.2)", "65.1 (83.0)", "75.8 (84.8)"),
            ("large", "66.3 (84.3)", "69.0 (84.1)", "77.3 (86.1)"),
        ),
    ),
    PublishedTable(
        "SAP: PAV-SOD by size of the instance, zero-shot mIoU with 1 click",
        _NOTES,
        ("model", "small", "medium", "large"),
        (
            ("SAM2-tiny", "46.3", "55.5", "49.1"),
            ("SAP-tiny", "53.9", "76.6", "79.7"),
            ("SAM2-large", "50.7", "71.9", "64.4"),
            ("SAP-large", "61.1", "76.2", "81.7"),
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

# MTPano's own tables were not at hand: of its text we have the abstract alone. These rows are of
# the data that it is scored on.
DENSE_TABLES: tuple[PublishedTable, ...] = (
    PublishedTable(
        "Semantics of whole panoramas, mIoU in percent",
        "model card of InSAI-Lab/360BEV (Teng et al., WACV 2024), huggingface.co, tables 360FV",
        ("method", "backbone", "input", "Stanford2D3D", "Matterport3D"),
        (
            ("Trans4PASS", "MiT-B2", "RGB", "52.10", "–"),
            ("CBFC", "ResNet-101", "RGB", "52.20", "–"),
            ("HoHoNet", "ResNet-101", "RGB-D", "–", "44.85"),
            ("SegFormer", "MiT-B2", "RGB", "–", "45.53"),
            ("360FV", "MiT-B2", "RGB", "54.30", "46.35"),
        ),
    ),
)
