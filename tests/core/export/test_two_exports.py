"""Two exports, and two reports, into one folder at once: one wins and the other is told, or both
stand apart. What stands afterwards is what one of them writes alone, to the byte. Real processes.
"""

import re
import shutil
from pathlib import Path

import pytest
import synthetic
from at_once import Pair, pair_of

from panoforge.core.export import export
from panoforge.core.shards.read import Dataset
from panoforge.core.shards.write import PackOptions, pack
from panoforge.core.stats import DatasetStats, write_report
from panoforge.core.storage.lease import held

OPTIONS = PackOptions(20_000, (("train", 1.0),))
FORMATS = ("coco", "yolo-seg")
WORK = """
from pathlib import Path
from panoforge.core.export import export
from panoforge.core.shards.read import Dataset
from panoforge.core.stats import write_report

def work(verb, dataset, out):
    if verb == "stats":
        write_report(dataset, Path(out), threads=1)
    else:
        export(Dataset.open(dataset), verb, out)
"""
Task = tuple[str, Path, Path]


@pytest.fixture(scope="module")
def pair():
    with pair_of(WORK) as made:
        yield made


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datasets of two and of four panoramas, and what each verb makes of each alone."""
    folder = tmp_path_factory.mktemp("places")
    for scenes, name in ((2, "small"), (4, "large")):
        for scene in range(scenes):
            synthetic.stage(folder / f"{name}-staged", scene, 0, 64, n_caps=3)
        pack(folder / f"{name}-staged", folder / name / "dataset", OPTIONS)
        for form in FORMATS:
            export(Dataset.open(folder / name / "dataset"), form, folder / "alone" / name / form)
        write_report(folder / name / "dataset", folder / "alone" / name / "stats", threads=1)
        shutil.copytree(folder / name / "dataset", folder / "states" / name / "data")
        write_report(
            folder / "states" / name / "data", folder / "alone" / name / "state", threads=1
        )
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """All files; the minute at which a page was made is left out."""
    return {
        path.relative_to(folder).as_posix(): re.sub(
            rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC", b"", path.read_bytes()
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def told(answers: list[str], pair: Pair) -> None:
    """Each is done or refused in words that say why; who holds the folder is named."""
    for i, answer in enumerate(answers):
        if answer.startswith("InUse"):
            assert f"(process {pair.processes[1 - i].pid})" in answer
        else:
            assert answer == "done" or "is not empty" in answer or "holds the report of" in answer


@pytest.mark.parametrize("attempt", range(4))
def test_two_exports_into_one_folder(places, pair, tmp_path, attempt):
    """Of two datasets, in one format and in two."""
    first, second = FORMATS[0], FORMATS[attempt % 2]
    out = tmp_path / "out"
    tasks = [(first, places / "large/dataset", out), (second, places / "small/dataset", out)]
    answers = pair.ask(*tasks)
    told(answers, pair)
    assert answers.count("done") == 1
    name, form = (("large", first), ("small", second))[answers.index("done")]
    assert files(out) == files(places / "alone" / name / form)


def test_an_export_is_told_who_writes_there(places, pair, tmp_path):
    with held(tmp_path / "out", "pano export --to sav"):
        task = ("coco", places / "small/dataset", tmp_path / "out")
        answers = pair.ask(task, task)
    assert all("is in use: pano export --to sav on " in answer for answer in answers)
    assert not (tmp_path / "out").exists() or not files(tmp_path / "out")


@pytest.mark.parametrize("attempt", range(3))
def test_two_reports_of_two_datasets(places, pair, tmp_path, attempt):
    out = tmp_path / "out"
    answers = pair.ask(*(("stats", places / n / "dataset", out) for n in ("large", "small")))
    told(answers, pair)
    assert answers.count("done") == 1
    name = ("large", "small")[answers.index("done")]
    assert files(out) == files(places / "alone" / name / "stats")


@pytest.mark.parametrize("attempt", range(3))
def test_two_reports_of_two_states_of_a_dataset(places, pair, tmp_path, attempt):
    """Both stand apart, or one is told: a page never lies beside another state's numbers."""
    out = tmp_path / "out"
    answers = pair.ask(
        *(("stats", places / "states" / n / "data", out) for n in ("large", "small"))
    )
    told(answers, pair)
    alone = [files(places / "alone" / name / "state") for name in ("large", "small")]
    found = files(out)
    pairs = {
        name: {"report.json": data, "report.html": found[name.replace(".json", ".html")]}
        for name, data in found.items()
        if name.endswith(".json")
    }
    assert len(found) == 2 * len(pairs) and len(pairs) == answers.count("done") > 0
    assert all(pair_ in alone for pair_ in pairs.values())
    assert DatasetStats.model_validate_json(found["report.json"]).dataset == "data"
