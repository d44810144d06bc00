"""Two writers on one dataset: the second is refused by the first one's name, and what stands
afterwards is whole. Real processes.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import synthetic
from at_once import LOOP, pair_of

from panoforge.core.shards.read import Dataset
from panoforge.core.shards.verify import verify
from panoforge.core.shards.write import PackOptions, pack
from panoforge.core.storage.lease import held

OPTIONS = PackOptions(20_000, (("train", 1.0),))
WORK = """
from panoforge.core.shards.repair import repair
from panoforge.core.shards.write import PackOptions, pack

def work(verb, source, dataset):
    if verb == "pack":
        pack(source, dataset, PackOptions(20_000, (("train", 1.0),)))
    else:
        repair(dataset)
"""


@pytest.fixture(scope="module")
def workers():
    with pair_of(WORK) as made:
        yield made


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of staged panoramas, one larger, and the dataset of the smaller."""
    folder = tmp_path_factory.mktemp("places")
    for scene in range(6):
        synthetic.stage(folder / "large", scene, 0, 64, n_caps=3)
        if scene < 3:
            synthetic.stage(folder / "small", scene, 0, 64, n_caps=3)
    pack(folder / "small", folder / "dataset", OPTIONS)
    return folder


def refusals(answers: list[str]) -> list[str]:
    assert all(answer == "done" or answer.startswith("InUse") for answer in answers), answers
    return [answer for answer in answers if answer != "done"]


@pytest.mark.parametrize("attempt", range(10))
def test_two_packs_at_once(places, workers, tmp_path, attempt):
    dataset = tmp_path / "dataset"
    tasks = [("pack", places / "large", dataset), ("pack", places / "small", dataset)]
    answers = workers.ask(*tasks)
    refused = refusals(answers)
    assert len(refused) < 2
    for answer in refused:
        other = workers.processes[1 - answers.index(answer)]
        assert "is in use: pano pack on" in answer and f"(process {other.pid})" in answer
    keys = set(Dataset.open(dataset).keys)
    large, small = (
        {path.name for path in (places / name).iterdir()} for name in ("large", "small")
    )
    won = [names for names, answer in zip((large, small), answers, strict=True) if answer == "done"]
    assert keys in won
    assert verify(dataset, deep=True).faults == ()
    assert not (dataset / "lease").exists() and not list(dataset.rglob(".tmp-*"))


@pytest.mark.parametrize("attempt", range(8))
def test_pack_beside_repair(places, workers, tmp_path, attempt):
    dataset = shutil.copytree(places / "dataset", tmp_path / "dataset")
    next(dataset.glob("index/samples-*")).unlink()
    answers = workers.ask(("pack", places / "large", dataset), ("repair", places, dataset))
    assert len(refusals(answers)) < 2
    packed = answers[0] == "done"
    assert len(Dataset.open(dataset)) == (6 if packed else 3)
    assert verify(dataset, deep=True).faults == ()


def test_the_second_says_who_the_first_is(places, workers, tmp_path):
    with held(tmp_path / "dataset", "pano repair"):
        task = ("pack", places / "small", tmp_path / "dataset")
        answers = workers.ask(task, task)
    assert len(refusals(answers)) == 2
    assert all("in use: pano repair on " in answer for answer in answers)
    assert not (tmp_path / "dataset" / "manifest.json").exists()


def test_a_reader_sees_the_old_or_the_new_state(places, tmp_path):
    """Opened at any moment while packs go on, whatever is opened is whole."""
    dataset = shutil.copytree(places / "dataset", tmp_path / "dataset")
    code = WORK + LOOP
    packer = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert packer.stdout.readline() == "ready\n"
    lines = [f"pack\t{places / name}\t{dataset}\n" for name in ("large", "small")] * 15
    packer.stdin.write("".join(lines))
    packer.stdin.close()
    sizes = set()
    while packer.poll() is None:
        sizes.add(len(Dataset.open(dataset)))
    assert packer.stdout.read().split() == ["done"] * len(lines)
    assert sizes == {3, 6}
