"""The docs against the code: pages that the code says, every command, every config, every block of
Python, every field of the format, every message, every link.
"""

import ast
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import reference_pages
import videos
import yaml
from pydantic import BaseModel
from repository import ROOT

import panoforge
from panoforge.cluster.config.sections import SECTIONS, load_section, sections_of
from panoforge.cluster.state.policy import AttemptFault
from panoforge.core.errors import ConfigError
from panoforge.core.sample.metadata import InstanceMeta, Pose, SampleMeta
from panoforge.core.sample.products import PRODUCTS
from panoforge.core.sample.video import InstanceTrack, VideoMeta
from panoforge.core.shards.layout import INSTANCE_SCHEMA, SAMPLE_SCHEMA
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.videos import VIDEO_SCHEMA
from panoforge.datagen.rendering.quality import REASONS
from panoforge.eval.scoring.metrics import boundary, depth, detection, normals, saliency, stats

DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_site"))
import figures  # noqa: E402  they belong to the site
import numbers_tables  # noqa: E402

PAGES = [
    *sorted(DOCS.rglob("*.md")),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples/README.md",
]
ROOMS = ("core", "datagen", "train", "eval", "label", "cluster", "panoforge")
VERBS = reference_pages.verbs()


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language, but those that say why they cannot run."""
    found = re.findall(rf"(<!-- not run: .*?-->\n\n?)?```{language}\n(.*?)```", page, re.S)
    return [block for excuse, block in found if not excuse]


@pytest.mark.parametrize("name", reference_pages.PAGES)
def test_what_the_code_says_is_on_its_page(name: str) -> None:
    written = (reference_pages.REFERENCE / name).read_text(encoding="utf-8")
    assert written == reference_pages.PAGES[name](), f"docs/reference/{name}: run `make style`"


def commands(page: str) -> Iterator[list[str]]:
    """The words of every `pano …` in a page's blocks of commands, and in its running text."""
    lines = re.findall(r"(?m)^ {4,}.*$", page.replace("\\\n", " "))
    lines += re.findall(r"`(pano [^`]+)`", page)
    for line in lines:
        for part in re.split(r"&&|\|\||;|\s#\s", f"{line} "):
            if re.match(r"\s*pano [a-z]", part):
                yield shlex.split(part, comments=True)


def faults_of(words: list[str]) -> list[str]:
    """What of a command the program does not have."""
    verb = VERBS.get(words[1])
    if verb is None:
        return [f"no verb {words[1]!r}"]
    options = {name for one in verb.params for name in (*one.opts, *one.secondary_opts)}
    given = [word.partition("=")[0] for word in words[2:] if word.startswith("--")]
    options |= {"--help", "--quiet", "--verbose"}
    found = [f"pano {words[1]} has no {name}" for name in given if name not in options]
    section = (words[2:3] or [""])[0] if words[1] == "submit" else words[1]
    configs = [ROOT / word for word in words[2:] if re.fullmatch(r"configs/\S+\.yaml", word)]
    if found or not configs or section not in SECTIONS:
        return found
    if not configs[0].is_file():
        return [f"no {configs[0].name}"]
    keys = [word for word in words[3:] if re.match(r"[\w.]+=", word) and "…" not in word]
    if "--checkpoint" in words and section in ("train", "eval"):
        keys.append(f"model.checkpoint={words[words.index('--checkpoint') + 1]}")
    if words[1] == "annotate":
        keys.append("run=x")  # the command's own, beside what it labels
    try:
        load_section(configs[0], SECTIONS[section], keys)
    except ConfigError as error:
        return [str(error)]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_is_one(page: Path) -> None:
    """Verbs and options exist, and keys fit the config that stands before them."""
    found = [
        f"{' '.join(words)}: {fault}"
        for words in commands(page.read_text(encoding="utf-8"))
        if "…" not in words[1:2] and len(words) > 1
        for fault in faults_of(words)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "    pano rendr x.yaml",
        "    pano pack runs/x --two y",
        "    pano train configs/train/sap_tiny.yaml stepz=3",
        "    pano train configs/train/no.yaml",
        "    pano train configs/train/sap_tiny.yaml --checkpoint x.pt",
        "text `pano eval configs/eval/sap.yaml scan.overlapp=1` text",
    ],
)
def test_a_wrong_command_is_found(line: str) -> None:
    assert [fault for words in commands(line) for fault in faults_of(words)]


YAMLS = [
    (page, block) for page in PAGES for block in blocks(page.read_text(encoding="utf-8"), "yaml")
]


@pytest.mark.parametrize(("page", "block"), YAMLS, ids=lambda value: str(value)[-24:])
def test_every_config_loads(tmp_path: Path, page: Path, block: str) -> None:
    """annotate.yaml lacks its folder, which lies beside what is labelled."""
    (tmp_path / "config.yaml").write_text(block)
    own = "run" in yaml.safe_load(block) or not block.startswith("# annotate.yaml")
    sections_of(tmp_path / "config.yaml", [] if own else ["run=x"])


PYTHON = [
    (page, block) for page in PAGES for block in blocks(page.read_text(encoding="utf-8"), "python")
]


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=lambda value: str(value)[-24:])
def test_every_block_of_python_runs(
    caps_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Path, block: str
) -> None:
    """In a folder with a small dataset and a picture of it."""
    shutil.copytree(caps_dataset, tmp_path / "runs/demo/dataset")
    videos.dataset_of_videos(tmp_path / "runs/video")
    (tmp_path / "dataset").symlink_to(tmp_path / "runs/demo/dataset")
    (tmp_path / "room.jpg").write_bytes(Dataset.open(caps_dataset)[0].members["rgb.jpg"])
    monkeypatch.chdir(tmp_path)
    shard = next((caps_dataset / "shards").glob("train-*.tar")).name
    exec(block.replace("train-000000-1a2b3c4d.tar", shard), {})


def rows(page: Path, title: str) -> list[list[str]]:
    """The cells of the first table after a heading or a bold word, without its heads."""
    text = page.read_text(encoding="utf-8")
    after = text[re.search(rf"(?m)^(?:#+ |\*\*){re.escape(title)}\b", text).end() :]  # type: ignore[union-attr]
    table = re.search(r"\n\|.*?\n\|-.*?\n((?:\|.*\n)+)", after)
    assert table, title
    return [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in table[1].splitlines()
    ]


def named(cells: str) -> list[str]:
    """The words in backticks of a cell."""
    return re.findall(r"`([^`]+)`", cells)


FORMAT = DOCS / "reference/format.md"


@pytest.mark.parametrize(
    ("title", "model"),
    [
        ("meta.json", SampleMeta),
        ("Pose", Pose),
        ("Instance", InstanceMeta),
        ("video.json", VideoMeta),
        ("Track of an instance", InstanceTrack),
    ],
)
def test_every_field_of_the_metadata_is_explained(title: str, model: type[BaseModel]) -> None:
    said = [name for cells in rows(FORMAT, title) for name in named(cells[0])]
    assert said == [name for name in model.model_fields if name in said]
    assert set(said) == set(model.model_fields)


@pytest.mark.parametrize(
    ("title", "schema"),
    [("samples", SAMPLE_SCHEMA), ("instances", INSTANCE_SCHEMA), ("videos", VIDEO_SCHEMA)],
)
def test_every_column_of_the_index_is_explained(title: str, schema: pa.Schema) -> None:
    text = FORMAT.read_text(encoding="utf-8")
    assert f"**{title}**" in text
    said = {cells[0].strip("`"): cells[1] for cells in rows(FORMAT, title)}
    assert list(said) == schema.names
    for column in schema:
        kind = column.type
        if pa.types.is_list(kind):
            inner = kind.value_type
            names = [f.name for f in inner] if pa.types.is_struct(inner) else [str(inner)]
            assert said[column.name] == f"list of {', '.join(names)}"
        else:
            assert said[column.name] == str(kind)


def test_every_product_is_explained() -> None:
    table = {named(cells[0])[0]: cells for cells in rows(FORMAT, "Samples")}
    assert set(table) == set(PRODUCTS)
    for name, product in PRODUCTS.items():
        _, members, array, *_ = table[name]
        assert product.suffix in named(members)
        assert all(kind in array for kind in product.dtypes)
        assert ("H×W×3" in array) == (product.channels == 3)


ERRORS = DOCS / "reference/errors.md"


def messages() -> str:
    """Every text in the code, f-strings with {} for what is put in."""
    found = []
    for path in (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
                found.append("".join(map(str, parts)))
    return "\n".join(found)


def test_every_message_is_one_of_ours() -> None:
    ours = messages()
    listed = [
        named(line)[0]
        for line in ERRORS.read_text(encoding="utf-8").splitlines()
        if re.match(r"\| `[^|]*` \| .* \| .* \|$", line)
    ]
    said = [text for text in listed if text not in REASONS]
    assert len(said) > 20 and not [text for text in said if text not in ours]


def test_every_reason_is_explained() -> None:
    text = ERRORS.read_text(encoding="utf-8")
    missing = [word for word in (*REASONS, *AttemptFault) if f"\n| `{word}` |" not in text]
    assert not missing


@pytest.mark.parametrize("name", figures.FIGURES)
def test_the_figures_are_drawn_by_the_program(tmp_path: Path, name: str) -> None:
    """To a tenth of a point: the last digits are the processor's, and so are pixels."""

    def lines(path: Path) -> str:
        text = re.sub(r'"data:image[^"]*"', "", path.read_text(encoding="utf-8"))
        return re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}", text)

    figures.FIGURES[name](tmp_path / name)
    assert lines(tmp_path / name) == lines(DOCS / "why" / name), "run `make style`"


@pytest.mark.parametrize("page", sorted((DOCS / "howto").glob("*.md")), ids=lambda page: page.stem)
def test_every_how_to_says_what_to_look_at(page: Path) -> None:
    assert re.search(r"\blooks? at\b", page.read_text(encoding="utf-8"), re.I)


def test_the_readme_says_what_every_verb_does() -> None:
    rows = re.findall(r"(?m)^\| (`pano .*?) \|", (ROOT / "README.md").read_text(encoding="utf-8"))
    said = " ".join(rows)
    assert not [verb for verb in VERBS if not re.search(rf"`(pano )?{verb}\b", said)]


def test_who_comes_is_received() -> None:
    """The files that GitHub reads: forms that it can show, and where to report what."""
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.name == "config.yml":
            continue
        assert form["name"] and form["description"]
        parts = [part for part in form["body"] if part["type"] == "textarea"]
        assert parts and len({part["id"] for part in parts}) == len(form["body"])
        assert all(part["attributes"]["label"] for part in parts)
    forms = {path.name for path in (ROOT / ".github/ISSUE_TEMPLATE").iterdir()}
    assert forms == {"config.yml", "fault.yml", "wish.yml"}
    wanted = {
        "SECURITY.md": "Report a vulnerability",
        "CODE_OF_CONDUCT.md": "private vulnerability report",
        ".github/pull_request_template.md": "make test",
        "CONTRIBUTING.md": "## Layout",
    }
    for name, text in wanted.items():
        assert text in (ROOT / name).read_text(encoding="utf-8"), name


def test_the_readme_is_short() -> None:
    """What it is, two commands, where to read on; all else has a page."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_numbers_are_those_of_the_results() -> None:
    """Every bench that recorded rows has a table, of its newest rows, and misses stand in it."""
    results = (ROOT / "bench/RESULTS.md").read_text(encoding="utf-8")
    found = numbers_tables.newest_rows(results)
    assert {"mask_cost", "loader", "end_to_end"} <= set(found)
    assert all((ROOT / "bench" / f"{module}.py").is_file() for module in found)
    page = numbers_tables.tables()
    assert all(f"### {module}\n" in page for module in found) and "| **no** |" in page
    peer = found["mask_cost"][0].peer
    newer = f"| 2099-01-01 | mask_cost | {peer} | 1 | 2 | s | 2 | 3 | no | x |"
    last = numbers_tables.newest_rows(f"{results}\n{newer}")["mask_cost"]
    assert len(last) == len(found["mask_cost"]) and "2099-01-01" in {row.date for row in last}


SHORT = re.compile(r"\| [^|]+ \| ([^|]+) \| `bench\.(\w+)` \|")


def test_the_figures_in_short_are_recorded() -> None:
    """Rounded figures of docs/numbers.md are among those of bench/RESULTS.md."""
    results = (ROOT / "bench/RESULTS.md").read_text(encoding="utf-8")
    recorded = {float(text) for text in re.findall(r"\d+\.?\d*", results)}
    rows = SHORT.findall((DOCS / "numbers.md").read_text(encoding="utf-8"))
    assert len(rows) >= 5
    for said, bench in rows:
        assert (ROOT / "bench" / f"{bench}.py").is_file()
        for text in re.findall(r"(?<![\w×-])\d+\.?\d*(?![\w×-]|-bit)", said.split(";")[0]):
            digits = len(text.partition(".")[2])
            assert any(round(value, digits) == float(text) for value in recorded), (bench, text)


def test_the_constants_of_the_metrics_are_theirs() -> None:
    page = (DOCS / "reference/metrics.md").read_text(encoding="utf-8")
    said = (
        f"⌈{boundary.TOLERANCE} · diagonal⌉",
        f"at most {detection.MAX_PREDICTIONS} predictions",
        f"precision at {len(detection.RECALLS)} recalls",
        f"{stats.RESAMPLES:,} resamples",
        f"up to {stats.EXACT_PANORAMAS} panoramas",
        f"{depth.MIN_DEPTH_M} m",
        f"δ < {depth.DELTA}ⁿ",
        f"β² = {saliency.BETA2}",
        f"{len(saliency.THRESHOLDS)} thresholds",
        ", ".join(f"{share:g}°" for share in normals.SHARES_DEG[:3])
        + f" and {normals.SHARES_DEG[3]:g}°",
    )
    assert not [text for text in said if text not in page]
    assert all(f"`{name}`" in page for name in panoforge.METRICS)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site makes them."""
    heads = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", head.lower()).strip()) for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    dead = []
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert not dead


def test_every_page_is_in_the_contents() -> None:
    def pages(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        for part in entry.values() if isinstance(entry, dict) else entry:
            if not isinstance(entry, str):
                yield from pages(part)

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    there = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert set(pages(nav)) == there


def test_the_pins_of_the_site_are_those_of_its_extra() -> None:
    import tomllib

    from packaging.requirements import Requirement

    pins = dict(
        line.split("==")
        for line in (DOCS / "_site/requirements.txt").read_text().splitlines()
        if "==" in line
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [Requirement(text) for text in project["optional-dependencies"]["docs"]]
    assert asked and all(one.specifier.contains(pins[one.name]) for one in asked)
