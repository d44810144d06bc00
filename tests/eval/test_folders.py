"""Where results lie: no evaluation overwrites another's, `latest` is the last one, two writers are
kept apart, and datasets in buckets are scored like folders.
"""

import json
from pathlib import Path

import pytest
import synthetic
from buckets import bucket

from panoforge.cli import main
from panoforge.core.storage.identity import folder_name, identity_sha256, point_latest
from panoforge.core.storage.lease import InUse, held
from panoforge.eval.config import EvalConfig
from panoforge.eval.folders import results_file
from panoforge.eval.run import run_evaluation


def config(**changes: object) -> EvalConfig:
    base = {
        "predictor": "ground_truth",
        "methods": ["direct"],
        "scan": {"size_px": 64},
        "device": "cpu",
        "model": {"size": "micro", "image_size": 64, "checkpoint": "random"},
        "report_panoramas": 0,
    }
    return EvalConfig.model_validate({**base, **changes})


def pano(*words: str) -> int:
    """The exit code of the command, run in this process."""
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.dataset(tmp_path_factory.mktemp("small"), scenes=2, cameras=1, width=128)


def test_a_file_called_random_is_not_recorded_as_the_word() -> None:
    model = {"size": "micro", "image_size": 64, "checkpoint": "./random"}
    recorded = config(model=model).model_dump(mode="json")
    assert recorded["model"]["checkpoint"] == "./random"
    assert config(model=recorded["model"]).model.checkpoint_file == Path("random")
    word = config().model_dump(mode="json")
    assert word["model"]["checkpoint"] == "random"
    assert config(model=word["model"]).model.checkpoint_file is None


@pytest.mark.parametrize(
    "other",
    [
        {"predictor": "empty"},
        {"methods": ["direct", "cubemap"]},
        {"prompts": {"kind": "box"}},
        {"max_panoramas": 1},
        {"predictor": "sam2"},
        {"predictor": "sam2", "seed": 1},
    ],
    ids=["predictor", "methods", "protocol", "panoramas", "model", "weights"],
)
def test_another_evaluation_overwrites_nothing(
    dataset: Path, tmp_path: Path, other: dict[str, object]
) -> None:
    first = {"predictor": "sam2"} if "seed" in other else {}
    one = run_evaluation(config(**first), dataset, tmp_path)
    before = {path: path.read_bytes() for path in one.folder.rglob("*") if path.is_file()}
    two = run_evaluation(config(**other), dataset, tmp_path)
    assert two.folder != one.folder and two.folder.parent == one.folder.parent
    assert {path: path.read_bytes() for path in before} == before
    assert results_file(tmp_path) == tmp_path / "eval/latest/results.json"
    latest = json.loads(results_file(tmp_path).read_text())
    assert latest == json.loads((two.folder / "results.json").read_text())
    assert json.loads((one.folder / "run.json").read_text())["stages"]["eval"]["outcome"] == "done"


def test_other_data_gets_another_folder_and_the_same_goes_on(dataset: Path, tmp_path: Path) -> None:
    one = run_evaluation(config(), dataset, tmp_path / "run")
    rows = {path: path.stat().st_mtime_ns for path in one.folder.rglob("rows.parquet")}
    again = run_evaluation(config(), dataset, tmp_path / "run")
    assert again.folder == one.folder and again.results["rows"] == one.results["rows"]
    assert rows and {path: path.stat().st_mtime_ns for path in rows} == rows  # nothing done twice
    more = synthetic.dataset(tmp_path / "more", scenes=3, cameras=1, width=128)
    assert run_evaluation(config(), more, tmp_path / "run").folder != one.folder


def test_the_recipe_of_geometry_yaml_keeps_the_earlier_evaluation(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Issue 13, B1, on the command line: both stand, and `pano compare` refuses to mix them."""
    recipe = Path(__file__).parents[2] / "configs/eval/geometry.yaml"
    common = [f"run={tmp_path}", f"dataset={dataset}", "scan.size_px=64", "model.image_size=64"]
    assert pano("eval", str(recipe), *common) == 0
    first = Path(capsys.readouterr().out.splitlines()[-1]).parent
    saved = (first / "results.json").read_bytes()
    assert pano("eval", str(recipe), *common, "prompts.kind=box") == 0
    second = Path(capsys.readouterr().out.splitlines()[-1]).parent
    assert first != second and (first / "results.json").read_bytes() == saved
    assert pano("compare", str(first), str(second)) == 1
    assert "were measured differently" in capsys.readouterr().err
    assert pano("compare", str(tmp_path)) == 0  # a run: its latest evaluation


def test_two_writers_of_one_evaluation_are_kept_apart(dataset: Path, tmp_path: Path) -> None:
    folder = run_evaluation(config(), dataset, tmp_path).folder
    with held(folder, "pano eval"), pytest.raises(InUse, match="is in use: pano eval"):
        run_evaluation(config(), dataset, tmp_path)
    run_evaluation(config(predictor="empty"), dataset, tmp_path)  # another identity: at once


def test_a_dataset_in_a_bucket_is_scored_like_a_folder(dataset: Path, tmp_path: Path) -> None:
    here = run_evaluation(config(), dataset, tmp_path / "here")
    with bucket(dataset=dataset) as url:
        there = run_evaluation(config(), f"{url}/dataset", tmp_path / "there")
    assert there.results["rows"] == here.results["rows"]
    assert there.results["dataset"] == here.results["dataset"]
    assert there.folder.name == here.folder.name  # the same data, wherever it lies


def test_pano_eval_takes_a_url(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Path(__file__).parents[2] / "configs/eval/geometry.yaml"
    words = [f"run={tmp_path}", "scan.size_px=64", "model.image_size=64"]
    with bucket(dataset=dataset) as url:
        assert pano("eval", str(recipe), *words, f"dataset={url}/dataset") == 0
    assert "2 panoramas" in capsys.readouterr().out
    assert not Path("s3:").exists()


def test_names_of_folders_are_plain() -> None:
    digest = identity_sha256({"a": 1})
    assert folder_name("sam2-tiny-set #2/../x", digest) == f"sam2-tiny-set-2-..-x-{digest[:10]}"
    assert folder_name("客", digest) == f"results-{digest[:10]}"
    assert len(folder_name("x" * 300, digest)) < 100
    assert identity_sha256({"a": 1, "b": 2}) == identity_sha256({"b": 2, "a": 1})


def test_latest_never_fails_a_finished_evaluation(tmp_path: Path) -> None:
    """Something else has the name, or the file system holds no links: no `latest`, no error."""
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest/mine.txt").write_text("kept")
    (tmp_path / "one").mkdir()
    point_latest(tmp_path / "one")
    assert (tmp_path / "latest/mine.txt").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "one"]
