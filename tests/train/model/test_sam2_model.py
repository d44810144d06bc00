"""Building, freezing, loading: official keys, named refusals, digests."""

import os
import pickle
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch
from train_small import small_config

from panoforge.core.errors import ConfigError, DataError, StorageError
from panoforge.eval.config import EvalConfig
from panoforge.eval.predictors.load import load_model
from panoforge.train.model.build import CONFIGS, PARTS, build_model, freeze, model_config
from panoforge.train.model.checkpoint_export import (
    export_official,
    export_safetensors,
    file_sha256,
    state_dict_sha256,
)
from panoforge.train.model.checkpoint_io import (
    check_architecture,
    load_checkpoint,
    looks_like,
    open_checkpoint,
    read_checkpoint,
)
from panoforge.train.settings.sam2 import ModelSettings

TINY = small_config(model={"size": "tiny"}).model
PROMPT = small_config().prompt


@pytest.fixture(scope="module")
def official_file(tiny_model, tmp_path_factory) -> Path:
    """A checkpoint in the official format with SAM2.1 tiny's keys."""
    path = tmp_path_factory.mktemp("official") / "sam2.1_hiera_tiny.pt"
    torch.save({"model": tiny_model.state_dict()}, path)
    return path


@contextmanager
def no_memory() -> Iterator[None]:
    """Models built inside have shapes and no values: the large one would take a gigabyte and
    seconds.
    """
    real = torch.linspace
    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(
            torch, "linspace", lambda *args: real(*args, device="cpu")
        )  # the trunk reads values of one
        yield


@pytest.fixture(scope="module")
def official_states() -> dict:
    """State dicts of all four sizes as upstream's own builder makes them."""
    from sam2.build_sam import build_sam2

    with no_memory():
        return {
            size: build_sam2(name, device="meta", apply_postprocessing=False).state_dict()
            for size, name in CONFIGS.items()
        }


def test_keys_and_shapes_are_upstreams_for_every_size(official_states):
    from hydra.utils import instantiate

    for size, theirs in official_states.items():
        with no_memory():
            ours = instantiate(
                model_config(ModelSettings(size=size, image_size=256), PROMPT)
            ).state_dict()
        assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}, (
            size
        )
        assert looks_like(theirs) == f"SAM 2.1 {size}"


def test_official_checkpoint_loads_and_is_digested(official_file: Path, tiny_model):
    settings = ModelSettings(size="tiny", image_size=128, checkpoint=official_file)
    model, weights = build_model(settings, PROMPT, seed=99)
    assert state_dict_sha256(model.state_dict()) == state_dict_sha256(tiny_model.state_dict())
    assert (weights.source, weights.random, weights.sha256) == (
        "sam2.1_hiera_tiny.pt",
        False,
        file_sha256(official_file),
    )


def test_every_other_size_is_refused_by_name(official_states, tiny_model):
    for size, state in official_states.items():
        if size != "tiny":
            with pytest.raises(
                DataError,
                match=(
                    rf"does not fit model.size=tiny: it looks like SAM 2\.1 {size} .*Set model.size"
                ),
            ):
                check_architecture(state, tiny_model.state_dict(), Path("x.pt"), "tiny")


def test_sam20_is_told_from_sam21(tiny_model):
    new_in_21 = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias")
    state = {k: v for k, v in tiny_model.state_dict().items() if k not in new_in_21}
    with pytest.raises(
        DataError, match=r"SAM 2\.0 \(not 2\.1\) tiny.*it lacks no_obj_embed_spatial"
    ):
        check_architecture(state, tiny_model.state_dict(), Path("x.pt"), "tiny")


def test_other_networks_are_refused(tmp_path: Path, tiny_model):
    path = tmp_path / "resnet.pt"
    torch.save({"model": torch.nn.Linear(2, 2).state_dict()}, path)
    with pytest.raises(DataError, match="looks like no SAM2 at all"):
        load_checkpoint(tiny_model, path, "tiny")
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(
        DataError, match=r'expected \{"model": state_dict\}, found \[.bias., .weight.\]'
    ):
        read_checkpoint(path)


def test_nan_weights_are_refused(tiny_model):
    state = dict(tiny_model.state_dict())
    state["no_obj_ptr"] = torch.full_like(state["no_obj_ptr"], float("nan"))
    with pytest.raises(DataError, match=r"1 tensor holds NaN or infinity \(first: no_obj_ptr\)"):
        check_architecture(state, tiny_model.state_dict(), Path("x.pt"), "tiny")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_file_is_refused(official_file: Path, tmp_path: Path, share: float):
    data = official_file.read_bytes()
    path = tmp_path / "cut.pt"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(
        DataError, match=r"is empty|truncated, damaged, or holding more than tensors"
    ):
        read_checkpoint(path)


def test_garbage_and_absence_are_refused(tmp_path: Path):
    (tmp_path / "garbage.pt").write_bytes(os.urandom(4096))
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        read_checkpoint(tmp_path / "garbage.pt")
    with pytest.raises(StorageError, match="does not exist"):
        read_checkpoint(tmp_path / "nowhere.pt")


def test_a_pickle_that_runs_code_does_not_run(tmp_path: Path):
    """The classic attack: data.pkl calls os.system. It is refused, and nothing happens."""
    flag = tmp_path / "flag"
    payload = b"cos\nsystem\n(S'touch " + str(flag).encode() + b"'\ntR."
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    with pytest.raises(DataError, match="holding more than tensors"):
        read_checkpoint(tmp_path / "evil.pt")
    assert not flag.exists()


def test_random_weights_are_a_function_of_the_seed(tiny_model):
    before = torch.random.get_rng_state()
    again, weights = build_model(TINY, PROMPT, seed=0)
    assert torch.equal(before, torch.random.get_rng_state())
    assert weights.random and weights.sha256 == state_dict_sha256(
        tiny_model.state_dict()
    ) == state_dict_sha256(again.state_dict())
    assert build_model(TINY, PROMPT, seed=1)[1].sha256 != weights.sha256


def test_digest_sees_values_names_and_types():
    state = {"a": torch.ones(2), "b": torch.tensor(3)}
    digests = {
        state_dict_sha256(s)
        for s in (
            state,
            {**state, "a": torch.tensor([1, 2.0])},
            {"a": state["a"], "c": state["b"]},
            {**state, "a": torch.ones(2, 1)},
            {**state, "b": torch.tensor(3, dtype=torch.int32)},
        )
    }
    assert len(digests) == 5
    assert state_dict_sha256(dict(reversed(state.items()))) == state_dict_sha256(state)


def test_every_parameter_belongs_to_exactly_one_part(tiny_model):
    whole = {part: prefixes for part, prefixes in PARTS.items() if part not in ("trunk", "neck")}
    for name, _ in tiny_model.named_parameters():
        assert len([part for part, prefixes in whole.items() if name.startswith(prefixes)]) == 1, (
            name
        )


def test_freezing_by_name():
    model, _ = build_model(
        small_config(model={"size": "tiny", "frozen": ["trunk", "prompt_encoder"]}).model, PROMPT
    )
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {
        n
        for n, _ in model.named_parameters()
        if n.startswith(("image_encoder.trunk.", "sam_prompt_encoder."))
    }
    assert not model.image_encoder.trunk.training and model.image_encoder.neck.training
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        freeze(model, tuple(PARTS))


def test_rotary_grid_follows_the_image_size(tiny_model):
    grids = [
        m.freqs_cis.shape[0]
        for m in tiny_model.memory_attention.modules()
        if hasattr(m, "freqs_cis")
    ]
    assert grids == [64] * 8  # 128 px / 16 = 8 × 8 places, two attentions in each of four layers


@cache
def opened() -> list[str]:
    """The names of the files that Python opens from the first call on (a hook stays for ever)."""
    names: list[str] = []
    sys.addaudithook(lambda event, what: names.append(str(what[0])) if event == "open" else None)
    return names


ODD = {
    "sparse": lambda w: w.to_sparse(),
    "quantised": lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
    "without values": lambda w: w.to("meta"),
    "of type torch.float8_e4m3fn": lambda w: w.to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("kind", ODD)
def test_tensors_of_other_kinds_are_refused_in_one_line(tmp_path: Path, tiny_model, kind: str):
    name = "sam_mask_decoder.iou_token.weight"
    odd = ODD[kind](torch.ones(4, 4))
    torch.save({"model": {**tiny_model.state_dict(), name: odd}}, tmp_path / "odd.pt")
    with pytest.raises(DataError, match=f"expected plain tensors, '{name}' is {kind}") as refused:
        load_checkpoint(tiny_model, tmp_path / "odd.pt", "tiny")
    assert "\n" not in str(refused.value)
    torch.save({"model": {3: torch.ones(2)}}, tmp_path / "number.pt")
    with pytest.raises(DataError, match="3 is not named by a text"):
        load_checkpoint(tiny_model, tmp_path / "number.pt", "tiny")
    torch.save({"model": torch.nested.nested_tensor([torch.ones(1)])}, tmp_path / "nested.pt")
    with pytest.raises(DataError, match="cannot be read as a checkpoint") as refused:
        load_checkpoint(tiny_model, tmp_path / "nested.pt", "tiny")
    assert str(refused.value).isprintable()


class Payload:
    """What an attacker pickles: to be called when the file is read."""

    def __reduce__(self):
        return os.mkdir, ("called",)


@pytest.mark.parametrize("where", ["whole", "model", "step", "plain pickle", "text"])
def test_a_pickle_runs_nothing_and_is_refused_without_bad_advice(
    tmp_path: Path, tiny_model, where: str, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "model.pt"
    state = tiny_model.state_dict()
    if where == "plain pickle":
        file.write_bytes(pickle.dumps({"model": Payload()}))
    elif where == "text":
        file.write_text('{"model": 1}')
    else:
        whole = {"model": state, where: Payload()} if where != "whole" else Payload()
        torch.save(whole, file)
    with pytest.raises(DataError, match="cannot be read as a checkpoint") as refused:
        load_checkpoint(tiny_model, file, "tiny")
    assert not (tmp_path / "called").exists()
    assert "weights_only" not in str(refused.value) and "\n" not in str(refused.value)
    if where in ("whole", "model", "step"):
        assert "asks to run" in str(refused.value) and "mkdir" in str(refused.value)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.uint8])
def test_other_numbers_are_not_cast_to_weights(
    tmp_path: Path, tiny_model, dtype: torch.dtype, suffix: str
):
    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    name = "sam_mask_decoder.iou_token.weight"
    state = {**before, name: before[name].to(dtype)}
    write = export_official if suffix == ".pt" else export_safetensors
    path = write(tmp_path / f"odd{suffix}", state, 1)
    with pytest.raises(DataError, match=f"first: {name} is {dtype}, expected torch.float32"):
        load_checkpoint(tiny_model, path, "tiny")
    assert all(torch.equal(before[k], v) for k, v in tiny_model.state_dict().items())


def test_half_precision_weights_become_the_models(tmp_path: Path, tiny_model):
    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    half = {k: v.half() if v.is_floating_point() else v for k, v in before.items()}
    load_checkpoint(tiny_model, export_official(tmp_path / "half.pt", half, 1), "tiny")
    try:
        after = tiny_model.state_dict()
        assert all(torch.equal(after[k], v.to(after[k].dtype)) for k, v in half.items())
    finally:
        tiny_model.load_state_dict(before)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_is_opened_once_and_keeps_its_step(tmp_path: Path, tiny_model, suffix: str):
    """Weights, digest, PanoSAM2's parts and steps come of one opening, in training and in eval."""
    path = tmp_path / f"model{suffix}"
    write = export_official if suffix == ".pt" else export_safetensors
    write(path, tiny_model.state_dict(), 12)
    for load in (
        lambda: build_model(
            ModelSettings(size="tiny", image_size=128, checkpoint=path), PROMPT, seed=1
        )[1],
        lambda: (
            load_model(
                EvalConfig.model_validate(
                    {
                        "model": {"size": "tiny", "image_size": 128, "checkpoint": path},
                        "device": "cpu",
                    }
                )
            ).weights
        ),
    ):
        opened().clear()
        weights = load()
        assert opened().count(str(path)) == 1
        assert weights.sha256 == file_sha256(path)
    assert open_checkpoint(path).step == 12
