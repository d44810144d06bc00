"""`pano submit VERB CONFIG`: a render, training or evaluation as a job of a Ray cluster.

It goes through Ray's Job Submission API.

The config is resolved and checked here, so a wrong key is refused before anything is sent. What
runs over there is the resolved config with absolute paths, uploaded as the job's working folder.
The job's process gets the resources and the runtime environment of `submit`
(panoforge.cluster.config.submission). Its log can be followed, and its exit code is given back.
Without an address a private Ray with a job port on the loopback address is started and ends with
the job: the same door, on this machine. Where the cluster asks for a token, Ray sends
RAY_AUTH_TOKEN along.
"""

import asyncio
import contextlib
import logging
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

import panoforge.core
from panoforge.cluster.config.jobs import RenderJobConfig, TrainJobConfig
from panoforge.cluster.config.ray import RayConfig
from panoforge.cluster.config.sections import VERBS, load_section
from panoforge.cluster.config.submission import SubmitConfig
from panoforge.cluster.ray.session import ray_session
from panoforge.cluster.ray.watch import ClusterError
from panoforge.core.config import config_from_overrides, config_yaml, top_level
from panoforge.core.errors import UsageError, first_line
from panoforge.core.storage.location import with_absolute_paths

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

JOB_YAML = "job.yaml"
SUBMITTED = ("render", "train", "eval")
_PREFIX = "submit."
_AGENT_PATIENCE_S = 60.0
_TALKATIVE = ("ray", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk")
_MISSING_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")


@dataclass(frozen=True)
class Submission:
    """What is to be submitted: the verb, its resolved config, and how."""

    verb: str
    config: BaseModel
    submit: SubmitConfig

    @property
    def entrypoint(self) -> str:
        """The command over there.

        A private Ray has this environment; on a cluster it is the Python that stands first there.
        """
        python = self.submit.python or (
            shlex.quote(sys.executable) if self.submit.address is None else "python"
        )
        return f"{python} -m panoforge {self.verb} {JOB_YAML}"

    def runtime_env(self, working_dir: Path) -> dict[str, Any]:
        """Ray's runtime environment of the job."""
        submit = self.submit
        modules = [str(Path(panoforge.core.__file__).parents[1])] if submit.send_code else []
        modules += [str(path.absolute()) for path in submit.py_modules]
        found: dict[str, Any] = {"working_dir": str(working_dir), "env_vars": dict(submit.env)}
        return (
            found
            | ({"py_modules": modules} if modules else {})
            | ({"pip": list(submit.pip)} if submit.pip else {})
        )


def load_submission(verb: str, path: Path, overrides: Sequence[str]) -> Submission:
    """Resolve a config for submission.

    Overrides `submit.KEY=VALUE` say how, all others are the verb's. ConfigError or UsageError for
    whatever is wrong.
    """
    if verb not in SUBMITTED:
        raise UsageError(
            f"pano submit {verb}: only {', '.join(SUBMITTED)} are jobs of a cluster; the others are"
            " quick"
        )
    how = [text.removeprefix(_PREFIX) for text in overrides if text.startswith(_PREFIX)]
    has_section = "submit" in top_level(path)
    submit = (
        load_section(path, SubmitConfig, how)
        if has_section
        else config_from_overrides(SubmitConfig, how)
    )
    own = [text for text in overrides if not text.startswith(_PREFIX)]
    config = load_section(path, VERBS[verb], own)
    # On the cluster that runs it, not on one of its own.
    if isinstance(config, (RenderJobConfig, TrainJobConfig)):
        config = config.model_copy(
            update={"ray": config.ray.model_copy(update={"address": "auto"})}
        )
    return Submission(verb, config, submit)


def submit(
    submission: Submission,
    *,
    follow: bool,
    write: Callable[[str], None],
    say: Callable[[str], None],
) -> int:
    """Submit a job; gives the exit code of its process (0 at once without `follow`).

    `write` gets pieces of its log, `say` lines about it. ClusterError if the cluster cannot be
    reached or refuses it.
    """
    if submission.submit.address is None:
        if not follow:
            raise UsageError(
                "a private Ray ends with this command: without submit.address the job must be"
                " followed"
            )
        with ray_session(RayConfig(), dashboard=True) as dashboard:
            return _submit(submission, f"http://{dashboard}", follow, write, say)
    return _submit(submission, submission.submit.address, follow, write, say)


def _submit(
    submission: Submission,
    address: str,
    follow: bool,
    write: Callable[[str], None],
    say: Callable[[str], None],
) -> int:
    from ray.job_submission import JobStatus, JobSubmissionClient

    how = submission.submit
    for talkative in _TALKATIVE:
        logging.getLogger(talkative).setLevel(logging.WARNING)
    with _cluster_errors(address), tempfile.TemporaryDirectory(prefix="panoforge-") as folder:
        Path(folder, JOB_YAML).write_text(
            config_yaml(with_absolute_paths(submission.config)), encoding="utf-8"
        )
        client = JobSubmissionClient(address)
        name = _patiently(
            lambda: client.submit_job(
                entrypoint=submission.entrypoint,
                runtime_env=submission.runtime_env(Path(folder)),
                metadata={"panoforge": submission.verb},
                entrypoint_num_cpus=how.cpus or None,
                entrypoint_num_gpus=how.gpus or None,
                entrypoint_memory=int(how.memory_gb * 1e9) or None,
            )
        )
    say(f"{name}: submitted to {address}")
    if not follow:
        say(f"follow it with: ray job logs --address {address} --follow {name}")
        return 0
    try:
        with _cluster_errors(address):
            asyncio.run(_tail(client, name, write))
            while not (status := client.get_job_status(name)).is_terminal():
                time.sleep(0.5)
            info = client.get_job_info(name)
    except KeyboardInterrupt:
        if how.address is None:
            client.stop_job(name)
        else:
            say(
                f"{name} goes on without you; stop it with: ray job stop --address {address} {name}"
            )
        raise
    if status == JobStatus.SUCCEEDED:
        return 0
    say(f"{name}: {status.lower()}: {what_ray_says(info.message, submission)}")
    return info.driver_exit_code or 1


def what_ray_says(message: str | None, submission: Submission) -> str:
    """Why a job failed, without the log that Ray adds, which was printed already.

    Where the Python over there lacks a package, what to do about it.
    """
    text = message or "the cluster does not say why"
    said = text.splitlines()[0].partition(", last available logs")[0].rstrip(".:") + "."
    if missing := _MISSING_MODULE.search(text):
        python = submission.entrypoint.partition(" -m ")[0]
        said += (
            f" Its Python, {python}, has no package {missing[1]}: name one that has panoforge with"
            " submit.python=PATH, or the packages with submit.pip=[…]"
        )
    return said


def _patiently(hand_in: Callable[[], str]) -> str:
    """Hand a job in, again where the cluster has no agent to take one yet.

    One that is just coming up says so, and has one some seconds later.
    """
    end = time.monotonic() + _AGENT_PATIENCE_S
    while True:
        try:
            return hand_in()
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(1)


async def _tail(client: "JobSubmissionClient", name: str, write: Callable[[str], None]) -> None:
    async for text in client.tail_job_logs(name):
        write(text)


@contextlib.contextmanager
def _cluster_errors(address: str) -> Iterator[None]:
    """Ray's client raises bare errors, and its own where the token is wrong."""
    from ray.exceptions import RayError

    try:
        yield
    except (ConnectionError, RuntimeError, ValueError, OSError, RayError) as error:
        raise ClusterError(
            f"the Ray cluster at {address} did not take the job: {first_line(error)} Check"
            " submit.address (the dashboard's, http://HOST:8265) and, if it asks for a token,"
            " RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        ) from None
