"""Packs on request, in a forked child that waits until somebody is watching its system calls:
`python packing_child.py`.

Imports take a second and a test of a hundred killed packers needs a hundred packers, so they are
paid once. Per line of standard input, `STAGED DATASET SHARD_BYTES`, it forks; prints the child's
process id; the child goes on when the next line comes; then it prints the child's exit status
(negative: the signal that ended it).
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from panoforge.core.errors import UserError
from panoforge.core.shards.write import PackOptions, pack


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        staged, dataset, shard_bytes = line.split()
        gate, opened = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(gate, 1)
            try:
                pack(staged, dataset, PackOptions(int(shard_bytes), (("train", 1.0),)))
            except UserError:
                os._exit(1)
            os._exit(0)
        print(child, flush=True)
        sys.stdin.readline()
        os.write(opened, b"g")
        _, status = os.waitpid(child, 0)
        os.close(gate)
        os.close(opened)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
