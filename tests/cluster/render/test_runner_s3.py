"""A run whose ledger is in a bucket: a real driver and real nodes, on a real S3 server on
loopback."""

import buckets
import pytest

from panoforge.cluster.config.jobs import TrainJobConfig
from panoforge.cluster.config.sections import sections_of
from panoforge.cluster.render.runner import render
from panoforge.cluster.state.ledger import Ledger
from panoforge.cluster.status.status import read_status
from panoforge.core.config import load_config
from panoforge.core.errors import ConfigError


def test_a_run_folder_is_a_folder(tmp_path):
    """Path("s3://bucket/run") would be a folder called s3: of the working folder."""
    file = tmp_path / "job.yaml"
    file.write_text("run: s3://bucket/run\nscenes: 1\n")
    said = (
        r"run: expected a folder that every node mounts .* not a URL: .*ledger=s3://.*pano pack RUN"
        r" --to s3://.* got 's3://bucket/run'"
    )
    with pytest.raises(ConfigError, match=said):
        sections_of(file, [])
    file.write_text("run: here\n")
    with pytest.raises(ConfigError, match=said):
        load_config(file, TrainJobConfig, ["run=s3://bucket/run"])


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_with_its_ledger_in_a_bucket(chaos):
    chaos.plan({1: ["segfault", "ok"], 2: ["refuse"]})
    with buckets.bucket() as url:
        job = chaos.job(4, ledger=f"{url}/ledgers/a-run")
        summary = render(job)
        assert (summary.count("done"), summary.count("failed")) == (3, 1)
        assert render(job).made_now == 0
        assert not (chaos.run / "ledger").exists()
        ledger = Ledger(job.ledger_url)
        assert ledger.store.names("attempts") == [] and len(ledger.store.names("segments")) >= 1
        assert {record.index: record.outcome for record in ledger.records()} == {
            0: "done",
            1: "done",
            2: "quarantined",
            3: "done",
        }
        assert len(ledger.store.names("lease")) == 3  # epoch, heartbeat and end of the last driver
        assert read_status(chaos.run).state == "finished"
