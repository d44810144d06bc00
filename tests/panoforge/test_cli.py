"""The command as a user meets it: exit codes, one clear message for every mistake, nothing
half-written.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import synthetic
from repository import ROOT

from panoforge.core.shards.layout import read_manifest


@pytest.fixture
def demo_yaml(tmp_path) -> Path:
    path = tmp_path / "demo.yaml"
    path.write_text(
        (ROOT / "configs" / "demo.yaml").read_text().replace("runs/demo", str(tmp_path / "run"))
    )
    return path


def test_the_installed_command_works_and_help_names_every_verb():
    script = Path(sys.executable).with_name("pano")
    text = subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout
    for verb in ("demo", "render", "pack", "verify", "stats", "train", "eval", "config", "doctor"):
        assert f" {verb} " in text


def test_verify_json(pano, caps_dataset):
    code, stdout, _ = pano("verify", caps_dataset, "--json")
    assert code == 0
    assert json.loads(stdout) == {"samples": 8, "faults": []}


def test_verify_names_a_flipped_bit_and_fails(pano, caps_dataset, tmp_path):
    shutil.copytree(caps_dataset, tmp_path / "d")
    shard = tmp_path / "d" / read_manifest(tmp_path / "d").shards[0].name
    data = bytearray(shard.read_bytes())
    data[5000] ^= 4
    shard.write_bytes(data)
    code, stdout, _ = pano("verify", tmp_path / "d", "--json")
    assert code == 1
    assert [f["sample"] for f in json.loads(stdout)["faults"] if f["sample"]] == ["caps-000000-c0"]
    code, stdout, _ = pano("verify", tmp_path / "d")
    assert code == 1 and "caps-000000-c0: its bytes do not have the digest" in stdout


def test_truncated_shard_fails_stats_with_one_message(pano, caps_dataset, tmp_path):
    shutil.copytree(caps_dataset, tmp_path / "d")
    shard = tmp_path / "d" / read_manifest(tmp_path / "d").shards[0].name
    os.truncate(shard, shard.stat().st_size // 2)
    code, _, stderr = pano("stats", tmp_path / "d", "--out", tmp_path / "stats")
    assert code == 1 and "truncated" in stderr
    assert not (tmp_path / "stats" / "report.html").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scens=3"], "unknown key 'scens'. Did you mean 'scenes'?"),
        (["scenes=lots"], "scenes: Input should be a valid integer"),
        (["ray.adress=auto"], "Did you mean 'ray.address'?"),
        (["width=1000", "height=600"], "twice as wide as high"),
        (
            ["sources=infinigen2.rooms"],
            "sources: expected a list, such as [{source: infinigen2.rooms}], got 'infinigen2.rooms",
        ),
        (["sources=[infinigen2.rooms]"], "such as {source: infinigen2.rooms}, got 'infinigen2."),
        (["sources.0.room=[kitchen]"], "'sources.0.room'. Did you mean 'sources.0.rooms'?"),
        (["render.scenes=3"], "its name is left out: scenes=3"),
    ],
)
def test_config_mistakes_exit_2_and_start_nothing(pano, demo_yaml, tmp_path, overrides, message):
    code, _, stderr = pano("render", demo_yaml, *overrides)
    assert code == 2 and message in stderr
    assert not (tmp_path / "run").exists()


def test_usage_mistakes_exit_2(pano, tmp_path):
    assert pano("rendr", "x")[0] == 2
    assert pano("render")[0] == 2
    code, _, stderr = pano("render", tmp_path / "none.yaml")
    assert code == 2 and "does not exist" in stderr
    code, _, stderr = pano("demo", ROOT / "configs" / "demo.yaml", "scenes=4")
    assert code == 2 and "Write render.scenes" in stderr


def test_missing_dataset_exits_1(pano, tmp_path):
    code, _, stderr = pano("verify", tmp_path / "nothing")
    assert code == 1 and "manifest.json: it does not exist" in stderr


def test_no_permission_and_full_disk_are_explained(pano, tmp_path, monkeypatch):
    synthetic.dataset(tmp_path, scenes=1, cameras=1)
    before = sorted(p.name for p in (tmp_path / "dataset").rglob("*") if "lease" not in p.parts)
    synthetic.stage(tmp_path / "staged", 5, 0)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        code, _, stderr = pano("pack", tmp_path)
    assert code == 1 and "the disk is full: free some space" in stderr
    after = (p for p in (tmp_path / "dataset").rglob("*") if "lease" not in p.parts)
    assert sorted(p.name for p in after) == before
    blocked = tmp_path / "file"
    blocked.write_text("")
    code, _, stderr = pano("pack", blocked)
    assert code == 1 and "a part of this path is a file" in stderr


def test_query_and_export_by_command(pano, caps_dataset, tmp_path):
    wanted = "category == 'sofa' and sr > 0.01"
    code, stdout, stderr = pano(
        "query", caps_dataset, wanted, "--extract", tmp_path / "x", "--products", "rgb"
    )
    assert code == 0
    keys = stdout.split()
    assert 0 < len(keys) <= 8 and f"{len(keys)} of 8 samples" in stderr
    expected = {f"{key}.{suffix}" for key in keys for suffix in ("rgb.jpg", "meta.json")}
    assert {p.name for p in (tmp_path / "x").iterdir()} == expected
    code, _, stderr = pano("query", caps_dataset, "__import__('os').system('true')")
    assert code == 2 and "error" in stderr
    assert pano("export", caps_dataset, tmp_path / "coco", "--to", "coco")[0] == 0
    assert (
        len(
            json.loads((tmp_path / "coco" / "annotations" / "instances.json").read_text())["images"]
        )
        == 8
    )
    code, _, stderr = pano("export", caps_dataset, tmp_path / "y", "--to", "coko")
    assert code == 2 and "Did you mean 'coco'" in stderr


def test_folders_named_like_tags_are_printed_as_they_are(pano, tmp_path):
    run, data, out = tmp_path / "r[/b]", tmp_path / "d[/b]", tmp_path / "o[/b]"
    synthetic.stage(run / "staged", 0, 0)
    for arguments in (
        ("pack", run, "--to", data),
        ("verify", data),
        ("stats", data, "--out", out),
        ("query", data, "px > 0", "--extract", tmp_path / "x[/b]"),
        ("export", data, tmp_path / "e[/b]", "--to", "yolo-seg"),
        ("repair", data),
        ("card", data, "--name", "[/b]", "--license", "cc-by-4.0"),
    ):
        code, stdout, stderr = pano(*arguments)
        assert code == 0, (arguments, stderr)
        assert arguments[0] in ("verify", "repair") or "[/b]" in stdout + stderr, arguments


def test_pack_then_verify_by_command(pano, tmp_path):
    synthetic.stage(tmp_path / "staged", 0, 0)
    code, stdout, _ = pano("pack", tmp_path, "splits={train: 1.0}")
    assert code == 0 and stdout.startswith("1 panorama with")
    assert pano("verify", tmp_path / "dataset", "--deep")[0] == 0
    record = json.loads((tmp_path / "run.json").read_text())["stages"]["pack"]
    assert record["outcome"] == "done" and record["config"]["splits"] == {"train": 1.0}


def test_config_prints_what_would_run(pano, demo_yaml, tmp_path):
    code, stdout, _ = pano("config", demo_yaml, "render.scenes=7")
    assert code == 0
    for line in ("render:", "  scenes: 7", "train:", "eval:", "pack:"):
        assert line in stdout.splitlines()
    again = tmp_path / "again.yaml"
    again.write_text(stdout)
    assert pano("config", again)[1] == stdout


def test_a_run_never_mixes_configs(pano, demo_yaml, tmp_path):
    from panoforge.cluster.state.ledger import Ledger

    Ledger(str(tmp_path / "run" / "ledger")).declare("0" * 64, {})
    code, _, stderr = pano("render", demo_yaml)
    assert code == 2 and "the ledger of another render config" in stderr
