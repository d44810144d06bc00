"""`pano verify RUN --rays N`: rendered ids against independently cast rays.

Scene by scene, each in a child process.

Of a video's frames some are looked at (`panoforge.datagen.verify.video_check`), and their flow too.

Takes a run folder, or one panorama's folder in it. The run's own config says how each scene is made
again. A panorama whose config digest is neither the run's nor that of its degraded profile is
refused: its scene would be another one.
"""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from panoforge.cluster.render.images import image_config_sha256
from panoforge.cluster.state.job_file import load_job
from panoforge.cluster.state.policy import degrade
from panoforge.core.errors import DataError
from panoforge.core.numbers import counted
from panoforge.core.progress import Progress
from panoforge.core.run_layout import STAGED
from panoforge.core.sample.metadata import SampleMeta
from panoforge.core.storage.staged import list_staged, read_staged_meta
from panoforge.datagen.config.render import RenderConfig, plan_scene
from panoforge.datagen.verify.request import VerifyRequest

TIMEOUT_S = 3600.0
MAX_EDGE_SHARE = (
    1e-3  # of rays that pass within a fiftieth of a pixel of an outline and round to the other side
)


@dataclass(frozen=True)
class RaysReport:
    """The panoramas' reports, and the scenes that could not be made again.

    Reports are as `panoforge.datagen.verify.ray_judge.RayReport` has them.
    """

    panoramas: tuple[dict, ...]
    failed: dict[str, str] = field(default_factory=dict)

    def total(self, name: str) -> int:
        """Sum of a count over all panoramas."""
        return sum(row[name] for row in self.panoramas)

    def flow_total(self, name: str) -> int:
        """Sum of a count over the flows of all frames."""
        return sum(row["flow"].get(name, 0) for row in self.panoramas)

    @property
    def flow_worst_px(self) -> float:
        """How far the worst of all places that are right is from the true one."""
        return max((row["flow"].get("worst_px", 0.0) for row in self.panoramas), default=0.0)

    def flow_counts(self, name: str) -> Counter[str]:
        """Sum of a table of counts over the flows of all frames."""
        found: Counter[str] = Counter()
        for row in self.panoramas:
            found.update(row["flow"].get(name, {}))
        return found

    def counts(self, name: str) -> Counter[str]:
        """Sum of a table of counts over all panoramas."""
        found: Counter[str] = Counter()
        for row in self.panoramas:
            found.update(row[name])
        return found

    @property
    def ok(self) -> bool:
        """Whether the rays agree with the run in all that is checked.

        No ray is unexplained, depth and flow agree, hardly any ray falls on an edge, and every
        scene could be made again.
        """
        differ, flows = self.counts("differ"), self.flow_counts("differ")
        edges = MAX_EDGE_SHARE * self.flow_total("rays") + 2
        return (
            not self.failed
            and not differ["wrong"]
            and not self.total("depth_off")
            and not flows["wrong"]
            and flows["edge"] <= edges
            and differ["edge"] <= MAX_EDGE_SHARE * self.total("rays") + 2
        )

    def as_json(self) -> dict:
        """The report as `pano verify --json` prints it."""
        return {
            "schema_version": 1,
            "ok": self.ok,
            "rays": self.total("rays"),
            "agree": self.total("agree"),
            "kinds": self.counts("kinds"),
            "agree_by_kind": self.counts("agree_by_kind"),
            "differ": self.counts("differ"),
            "ties": dict(self.counts("ties").most_common(20)),
            "flow": {
                "rays": self.flow_total("rays"),
                "agree": self.flow_total("agree"),
                "states": self.flow_counts("states"),
                "differ": self.flow_counts("differ"),
                "worst_px": self.flow_worst_px,
            },
            "panoramas": list(self.panoramas),
            "failed": self.failed,
        }

    def as_lines(self) -> list[str]:
        """For a terminal."""
        rays, kinds, agree, differ = (
            self.total("rays"),
            self.counts("kinds"),
            self.counts("agree_by_kind"),
            self.counts("differ"),
        )
        lines = [
            f"{self.total('agree')} of {counted(rays, 'ray')} in"
            f" {counted(len(self.panoramas), 'panorama')} meet what was"
            " rendered"
        ]
        lines += [
            f"  on {kind:<12} {agree[kind]} of {count}" for kind, count in kinds.most_common()
        ]
        lines += [f"  differ: {cause:<12} {count}" for cause, count in differ.most_common()]
        if self.total("depth_off"):
            lines.append(f"  depth is off on {counted(self.total('depth_off'), 'ray')}")
        if flows := self.flow_total("rays"):
            states = self.flow_counts("states")
            lines.append(
                f"flow: {self.flow_total('agree')} of {counted(flows, 'sample')} on opaque surfaces"
                f" are right ({', '.join(f'{n} {state}' for state, n in states.most_common())}; at"
                f" most {self.flow_worst_px:.3f} px off)"
            )
            lines += [
                f"  differ: {cause:<12} {count}"
                for cause, count in self.flow_counts("differ").most_common()
            ]
        for pair, count in self.counts("ties").most_common(5):
            lines.append(
                f"  in one plane: {pair} ({counted(count, 'ray')}): which of the two a pixel"
                " shows is chance"
            )
        lines += [
            f"  {row['key']}: {example}"
            for row in self.panoramas
            for example in (*row["examples"], *row["flow"].get("examples", ()))
        ]
        lines += [f"  {scene}: not checked: {why}" for scene, why in self.failed.items()]
        return lines


def verify_by_rays(path: Path, rays: int) -> RaysReport:
    """Check `rays` pixels, spread evenly over the panoramas of the run (or in the one panorama).

    DataError if `path` is neither.
    """
    run, keys = _which(path)
    if not keys:
        raise DataError(
            f"{run / 'staged'} holds no panoramas, so there is nothing to check: pano render first"
        )
    render = load_job(run).render
    scenes: dict[str, list[SampleMeta]] = {}
    for key in keys:
        meta = read_staged_meta(run / STAGED, key)
        scenes.setdefault(meta.scene, []).append(meta)
    done, failed = [], {}
    each = max(1, -(-rays // len(keys)))
    with Progress("verify", total=len(scenes), unit="scenes") as progress:
        for scene, metas in scenes.items():
            reports = _check_scene(run, render, metas, each)
            if isinstance(reports, str):
                failed[scene] = reports
                progress.fail()
            else:
                done += reports
            progress.advance()
    return RaysReport(tuple(done), failed)


def _which(path: Path) -> tuple[Path, list[str]]:
    if (path / "meta.json").is_file() and path.parent.name == STAGED:
        return path.parent.parent, [path.name]
    if not (path / STAGED).is_dir():
        raise DataError(
            f"{path}: expected the folder of a render run, or RUN/staged/KEY of one panorama"
        )
    return path, list_staged(path / STAGED)


def _check_scene(
    run: Path, render: RenderConfig, metas: list[SampleMeta], rays: int
) -> list[dict] | str:
    """The reports of a scene's panoramas, or why there are none."""
    job = plan_scene(render, int(metas[0].scene.rpartition("-")[2]))
    if job.key != metas[0].scene:
        return f"the run's config makes {job.key} at this number"
    digests = {
        image_config_sha256(render): render,
        image_config_sha256(degrade(render)): degrade(render),
    }
    if metas[0].config_sha256 not in digests:
        made = " or ".join(sha[:12] for sha in digests)
        return f"it was rendered with another config ({metas[0].config_sha256[:12]}, not {made})"
    with tempfile.TemporaryDirectory(prefix="panoforge-verify-") as name:
        request = VerifyRequest(
            scene=job,
            seed=metas[0].seed,
            render=digests[metas[0].config_sha256],
            rays=rays,
            staged=run.absolute() / STAGED,
            keys=tuple(meta.key for meta in metas),
            result=Path(name) / "rays.json",
        )
        path = Path(name) / "job.json"
        path.write_text(request.model_dump_json())
        try:
            ended = subprocess.run(
                [sys.executable, "-m", "panoforge.datagen.verify.verify_rays", str(path)],
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"no answer after {TIMEOUT_S:.0f} s"
        if not request.result.is_file():
            return (
                ended.stderr.strip().splitlines()
                or [f"the process ended with code {ended.returncode}"]
            )[-1]
        found: list[dict] = json.loads(request.result.read_bytes())
        return found
