"""Config files made to hang or to crash: one line, exit code 2, within a second and 100 MB.

Each is loaded in a child process that may take 100 MB more than this one has.
"""

import multiprocessing
import os
import resource
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from panoforge.cluster.config.jobs import RenderJobConfig
from panoforge.cluster.config.sections import load_section, sections_of
from panoforge.core.errors import UserError


def aliases(levels: int, wide: int) -> str:
    """Billion laughs: each level is `wide` times the one before."""
    lines = ["l0: &l0 [lol, lol]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * wide)}]" for n in range(1, levels)]
    return "\n".join(lines)


def references(levels: int, wide: int, open_: str = "'", close: str = "'") -> str:
    """The same with references, in a text or in a list."""
    lines = ["k0: lollollol"]
    between = "" if open_ == "'" else ", "
    lines += [
        f"k{n}: {open_}{between.join([f'${{k{n - 1}}}'] * wide)}{close}" for n in range(1, levels)
    ]
    return "\n".join(lines)


HOSTILE = {
    "aliases that multiply": aliases(12, 10),
    "long texts that aliases multiply": "a: &a '" + 100_000 * "x" + "'\nb: [" + 999 * "*a," + "*a]",
    "merged mappings that multiply": "a: &a {x: 1}\n"
    + "\n".join(
        f"b{n}: &b{n} {{<<: [{', '.join(9 * ['*a' if not n else f'*b{n - 1}'])}]}}"
        for n in range(9)
    ),
    "an alias inside itself": "run: &r [*r]",
    "a mapping that holds itself": "&m {run: *m}",
    "deep lists": "run: " + 50_000 * "[" + 50_000 * "]",
    "deep mappings": "run: " + 50_000 * "{a: ",
    "deep blocks": "\n".join(" " * n + "a:" for n in range(1000)),
    "many values": "run: [" + 250_000 * "0," + "]",
    "references that multiply a text": references(40, 2),
    "references that multiply lists": references(12, 10, "[", "]"),
    "a reference to itself": "run: ${run}",
    "references in a circle": "run: ${a}\na: '${b}/x'\nb: ${a}",
    "a long chain of references": "\n".join(f"k{n}: ${{k{n - 1}}}" for n in range(1, 5000))
    + "\nk0: x\nrun: ${k4999}",
    "a tag of another kind": "scenes: !!bool maybe",
    "a number without digits": "scenes: !!int ''",
    "a time that is none": "run: !!timestamp x",
    "an open reference": "run: '${run'",
    "a reference in a reference": "run: '${a.${b}}'",
    "a resolver": "run: '${oc.create:{a: 1}}'",
    "an integer that is none": "run: r\nscenes: 0x_",
    "a tagged integer that is none": "run: r\nscenes: !!int 0x_",
    "a tagged float that is none": "run: r\nscenes: !!float x",
    "an integer of 100,000 digits": "run: r\nscenes: " + 100_000 * "9",
    "a float beyond all": "run: r\nsamples: 1e400",
    "a key that is a list": "? [a, b]\n: 1",
    "a key that is a number": "1: x",
    "a set": "run: !!set {a, b}",
    "bytes": "run: !!binary aGFsbG8=",
    "a date": "run: !!timestamp 2001-01-01",
    "python": "run: !!python/object/apply:os.system ['true']",
    "a key twice": "run: a\nrun: b",
    "two documents": "run: a\n---\nrun: b",
    "a control character": "run: 'a\x07b'",
    "an unknown key of a megabyte": "run: r\n? '" + 900_000 * "k" + "'\n: 1",
    "lines in an unknown key": 'run: r\n"a\\nb\\x1b[31m": 1',
    "lines in a value": 'run: r\nscenes: "a\\nb\\x1b[31m"',
}


@dataclass(frozen=True)
class Ended:
    """What became of a child process: exit code, what it said, seconds of its processor."""

    code: int
    said: str
    cpu_s: float


def child(path: Path, *overrides: str) -> Ended:
    """Load a config in a copy of this process that may take 100 MB more than it has."""
    receiver, sender = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=load, args=(path, overrides, sender)
    )
    process.start()
    assert receiver.poll(30), "it hangs"
    ended: Ended = receiver.recv()
    process.join()
    return ended


def load(path: Path, overrides: tuple[str, ...], sender: Connection) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 100_000_000
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    begin = time.process_time()
    code, said = 0, ""
    try:
        load_section(path, RenderJobConfig, overrides)
        sections_of(path, overrides)
    except UserError as error:
        code, said = error.exit_code, str(error)
    except BaseException:
        code, said = 70, traceback.format_exc()
    sender.send(Ended(code, said, time.process_time() - begin))


def refused(ended: Ended) -> str:
    assert ended.code == 2, ended
    assert len(ended.said.splitlines()) == 1 and len(ended.said) < 2000, ended
    assert ended.said.isprintable(), ended
    assert ended.cpu_s < 1, ended
    return ended.said


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_config_is_refused_at_once(tmp_path, what):
    path = tmp_path / "c.yaml"
    path.write_text(HOSTILE[what], newline="")
    refused(child(path))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("run: é".encode("latin-1"), "expected UTF-8 text, byte 5 is 0xe9"),
        ("run: r".encode("utf-16"), "expected UTF-8 text, byte 0 is 0xff"),
        (b"run: \x00", "not valid YAML"),
        (os.urandom(1000), "c.yaml"),
        (b"x" * (2 << 20), "is over 1048576 bytes"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, data, message):
    (tmp_path / "c.yaml").write_bytes(data)
    assert message in refused(child(tmp_path / "c.yaml"))


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    (tmp_path / "c.yaml").write_bytes("run: r\nscenes: 2\n".encode("utf-8-sig"))
    assert child(tmp_path / "c.yaml").code == 0


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert "this is no regular file" in refused(child(tmp_path / "fifo"))
    assert "this is no regular file" in refused(child(Path("/dev/zero")))
    assert "this is a folder" in refused(child(tmp_path))
    (tmp_path / "link.yaml").symlink_to("link.yaml")
    assert "link.yaml" in refused(child(tmp_path / "link.yaml"))


@pytest.mark.parametrize(
    "override",
    [
        "scenes=0x_",
        "scenes=" + 5000 * "9",
        "sources=" + 900 * "[",
        "splits=&a [*a]",
        "scenes=${scenes}",
    ],
)
def test_hostile_overrides(tmp_path, override):
    (tmp_path / "c.yaml").write_text("run: r\n")
    refused(child(tmp_path / "c.yaml", override))


def test_a_config_as_large_as_they_get_is_read(tmp_path):
    """The limits leave room for what `pano submit` sends: thousands of poses in the config."""
    pose = "{x_m: 1.5, y_m: -0.25, z_m: 1.6, yaw_deg: 90.0}"
    path = tmp_path / "c.yaml"
    path.write_text("run: r\ncamera:\n  poses:\n" + 4000 * f"  - {pose}\n")
    assert child(path).code == 0, child(path)
