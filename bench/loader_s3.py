"""Reading samples of a bucket into a null consumer: training's source against webdataset.

A server of S3 on loopback, in a process of its own, holds one dataset (as in `bench.loader`). Ours
reads `s3://…` through Arrow and fsspec, the members that are decoded and no others, and compares
them with their checksums. The peer reads whole shards through curl, as its guide has it, and
checks nothing. CPU of this process is counted, so curl's work is free to the peer. The clock's
milliseconds a sample are told beside it, and what the same dataset takes from the disk.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.common import (
    Outcome,
    Peer,
    arguments,
    finish,
    interleave,
    median,
    use_one_thread,
    version,
)
from bench.loader import Ours, WebDataset, check_equal, make_dataset, read_epoch
from panoforge.cluster.ray.node import free_ports
from panoforge.core.shards.read import Dataset


class WebDatasetByCurl(WebDataset):
    """webdataset on our shards in the bucket, whole, by curl."""

    def __init__(self, dataset: Dataset, endpoint: str) -> None:
        self.urls = [
            f"pipe:curl -sS {endpoint}/bench/ours/{entry.name}" for entry in dataset.manifest.shards
        ]


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The URL of an S3 server of its own process on loopback; ended afterwards."""
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(endpoint)
            yield endpoint
        finally:
            process.terminate()


def _wait_for(endpoint: str, limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while True:
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return


def upload(folder: Path, bucket: str) -> None:
    """Put a dataset into a bucket made for it, which everyone may read (curl signs nothing)."""
    import fsspec

    s3 = fsspec.filesystem("s3")
    s3.mkdir(bucket, acl="public-read")
    s3.put(str(folder), f"{bucket}/ours", recursive=True)
    for name in s3.find(bucket):
        s3.chmod(name, acl="public-read")


def main() -> None:
    args = arguments(__doc__).parse_args()
    use_one_thread()
    samples, width = (16, 2048) if args.quick else (40, 4096)
    with tempfile.TemporaryDirectory(prefix="bench-loader-") as name, server() as endpoint:
        os.environ |= dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "bench")
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        local = make_dataset(Path(name), samples, width)
        upload(Path(name) / "ours", "bench")
        far = Ours(Dataset.open("s3://bench/ours"), Path(name))
        here, peer = Ours(local, Path(name)), WebDatasetByCurl(local, endpoint)
        here.name = "local"
        whole = [local[index].members for index in range(samples)]
        truth = {one["meta.json"]: one["rgb.jpg"] + one["instance.zst"] for one in whole}
        check_equal([far, here, peer], truth)
        readers = (far, here, peer)
        seconds = interleave({r.name: partial(read_epoch, r) for r in readers}, repeats=5)
        clock = {reader.name: _clock_s(reader) for reader in readers}
    per_sample = {name: 1e3 * median(values) / samples for name, values in seconds.items()}
    finish(
        Outcome(
            "loader_s3",
            ours=per_sample["ours"],
            unit="ms CPU/sample",
            n=len(seconds["ours"]),
            facts={
                "samples": samples,
                "width": width,
                "local_ms": round(per_sample["local"], 2),
                "clock_ms": {k: round(1e3 * v / samples, 1) for k, v in clock.items()},
            },
            peers=(Peer(f"{version('webdataset')} by curl", per_sample["webdataset"], 1),),
        ),
        args,
    )


def _clock_s(reader: Ours | WebDataset) -> float:
    begin = time.perf_counter()
    read_epoch(reader)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
