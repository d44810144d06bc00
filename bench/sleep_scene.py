"""A scene worker that sleeps: the smallest thing that obeys `panoforge.datagen.worker`'s contract,
for bench/orchestration.py.

Uses the standard library alone, so that its start costs as little as a Python process can.
`PANOFORGE_SLEEP_S` is how long it sleeps. In runs whose folder is called crash… it crashes with the
chance `PANOFORGE_CRASH_P`, decided by scene and attempt, at the end of the sleep: the dearest
moment.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path


def crashes(scene: int, attempt: int, chance: float) -> bool:
    """Whether that attempt is to crash."""
    return (
        int.from_bytes(hashlib.sha256(f"{scene}/{attempt}".encode()).digest()[:4], "big")
        < chance * 2**32
    )


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_bytes())
    time.sleep(float(os.environ["PANOFORGE_SLEEP_S"]))
    scene, attempt = request["scene"], int(Path(sys.argv[1]).parent.name.split("-")[1])
    to_crash = (
        Path(sys.argv[1]).parents[2].name.startswith("crash")
    )  # of the run whose job file this is
    if to_crash and crashes(scene["index"], attempt, float(os.environ["PANOFORGE_CRASH_P"])):
        os.abort()
    key = f"{scene['key']}-c0"
    folder = Path(request["staged"], key)
    folder.mkdir(parents=True)
    members = {
        "instance.zst": key.encode(),
        "meta.json": json.dumps({"config_sha256": request["config_sha256"]}).encode(),
    }
    for name, data in members.items():
        (folder / name).write_bytes(data)
    panorama = {
        "key": key,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
        "instances": 0,
        "timings_s": {},
    }
    temporary = Path(request["result"] + ".new")
    temporary.write_text(
        json.dumps({"key": scene["key"], "outcome": "done", "panoramas": [panorama]})
    )
    temporary.rename(request["result"])


if __name__ == "__main__":
    main()
