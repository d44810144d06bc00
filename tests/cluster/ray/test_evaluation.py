"""Evaluation as Ray tasks gives what one process gives, and goes on where it stopped."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import synthetic

from panoforge.cluster.config.jobs import EvalJobConfig
from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.ray.evaluation import _on_node, chunks, evaluator
from panoforge.cluster.ray.session import ray_session
from panoforge.core.errors import DataError
from panoforge.core.storage.atomic import write_bytes_atomic
from panoforge.eval.evaluate import EvalJob
from panoforge.eval.run import run_evaluation
from panoforge.stages import eval_stage


def config(folder: Path, run: str, **changes: object) -> EvalJobConfig:
    base = {
        "predictor": "ground_truth",
        "methods": ["scan_zoom"],
        "scan": {"size_px": 64},
        "device": "cpu",
        "report_panoramas": 0,
        "model": {"size": "tiny", "image_size": 64},
        "run": folder / run,
        "dataset": folder / "dataset",
    }
    return EvalJobConfig.model_validate({**base, **changes})


def test_every_position_is_in_one_chunk_and_chunks_are_small() -> None:
    for number in (0, 1, 7, 100):
        for workers in (1, 2, 5):
            found = chunks(range(3, 3 + number), workers)
            assert [p for chunk in found for p in chunk] == list(range(3, 3 + number)) and all(
                found
            )
            assert len(found) <= 4 * workers
    assert evaluator(config(Path("nowhere"), "run")) is None


def test_what_a_task_does_gives_the_rows_of_one_process_in_any_order(tmp_path: Path) -> None:
    synthetic.dataset(tmp_path, scenes=3, cameras=1, width=128, n_caps=4)
    settings = config(tmp_path, "alone")
    plain = settings.eval
    alone = run_evaluation(plain, settings.dataset, tmp_path / "alone").results

    def backwards(job: EvalJob, positions: Sequence[int], on_done: Callable[[], None]) -> None:
        for chunk in reversed(chunks(positions, 1)):
            _on_node((job, chunk))
            on_done()

    other = run_evaluation(plain, settings.dataset, tmp_path / "other", backwards).results
    assert other["rows"] == alone["rows"] and other["scores"] == alone["scores"]
    with pytest.raises(DataError, match="was evaluated and is not there"):
        run_evaluation(plain, settings.dataset, tmp_path / "lost", lambda *_: None)
    changed = EvalJob(plain, settings.dataset, tmp_path / "changed", "of other weights")
    with pytest.raises(DataError, match="all workers must see the same files"):
        _on_node((changed, [0]))


@pytest.mark.real
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_ray_tasks_give_the_rows_of_one_process(tmp_path: Path) -> None:
    """Three evaluations on one private Ray."""
    synthetic.dataset(tmp_path, scenes=3, cameras=1, width=128, n_caps=4)
    alone = eval_stage(config(tmp_path, "alone")).results
    ray = RayConfig(cpus_per_scene=0.5)
    with ray_session(ray, cpus=1):
        together = eval_stage(config(tmp_path, "together", workers=2, ray=ray)).results
        assert together["rows"] == alone["rows"] and together["scores"] == alone["scores"]
        assert (tmp_path / "together/eval/latest/prompts.json").read_bytes() == (
            tmp_path / "alone/eval/latest/prompts.json"
        ).read_bytes()
        folders = sorted((tmp_path / "together/eval/latest/panoramas").iterdir())
        kept = [folder / "rows.parquet" for folder in folders]
        before = [path.stat().st_mtime_ns for path in kept]
        write_bytes_atomic(kept[1], b"cut short")
        again = eval_stage(config(tmp_path, "together", workers=2, ray=ray)).results
        assert again["rows"] == alone["rows"]
        assert [a == path.stat().st_mtime_ns for a, path in zip(before, kept, strict=True)] == [
            True,
            False,
            True,
        ]
        bad = tmp_path / "prompts.json"
        bad.write_text('{"format": "panoforge-prompts", "schema_version": 2, "panoramas": {}}')
        with pytest.raises(DataError, match="has no prompts for panorama"):  # raised in a task
            eval_stage(config(tmp_path, "bad", workers=2, ray=ray, prompts={"file": bad}))
