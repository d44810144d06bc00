"""Datasets in buckets: a real S3 server (moto's) on a loopback port, and folders copied into it."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@contextlib.contextmanager
def bucket(**folders: Path) -> Iterator[str]:
    """The URL of a bucket that holds these folders under their names; gone afterwards."""
    import fsspec
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ |= dict(zip(VARIABLES, (f"http://{host}:{port}", "test", "test"), strict=True))
    s3fs.S3FileSystem.clear_instance_cache()  # connections of an earlier server
    try:
        name_of_bucket = (
            f"panoforge-{uuid.uuid4().hex[:8]}"  # moto's servers of one process share their buckets
        )
        fsspec.filesystem("s3").mkdir(name_of_bucket)
        for name, folder in folders.items():
            fsspec.filesystem("s3").put(str(folder), f"{name_of_bucket}/{name}", recursive=True)
        yield f"s3://{name_of_bucket}"
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
