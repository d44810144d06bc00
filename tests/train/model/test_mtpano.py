"""MTPano's parts, each by its property.

What begins as nothing, what gradients reach, what a turn of the camera does, and no seam.
"""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from panoforge.core.errors import ConfigError, DataError, UsageError
from panoforge.train.model.checkpoint_export import export_official, export_safetensors
from panoforge.train.model.mtpano.backbone import read_folder
from panoforge.train.model.mtpano.build import build_mtpano, describe, load_dense
from panoforge.train.model.mtpano.heads import GROUPS
from panoforge.train.model.mtpano.model import DensePrediction, Mtpano
from panoforge.train.model.mtpano.rays import local_axes, ray_map, to_world
from panoforge.train.model.seam import SeamConv2d, enlarge
from panoforge.train.settings.mtpano import BackboneSettings, MtpanoSettings

CLASSES = 5
SMALL = MtpanoSettings(
    height_px=32,
    channels=32,
    backbone=BackboneSettings(patch_px=8, width=32, depth=4, heads=2),
)
PATCH = 8
BARE = {"streams": False, "auxiliary": ()}


def trained(settings: MtpanoSettings, seed: int = 0, scale: float = 0.05) -> Mtpano:
    """A model in float64 none of whose parts is at its first value: as if it had been trained."""
    model, _ = build_mtpano(settings, CLASSES, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    return model.double().eval()


def picture(batch: int = 1, height: int = 32) -> Tensor:
    return torch.rand(
        (batch, 3, height, 2 * height), generator=torch.Generator().manual_seed(3)
    ).double()


def about_vertical(columns: int, width: int) -> Tensor:
    """What a roll of the picture by so many columns to the right does to directions."""
    turn = torch.tensor(2 * torch.pi * columns / width, dtype=torch.float64)
    c, s = turn.cos().item(), turn.sin().item()
    return torch.tensor([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)


def differences(model: Mtpano, tokens: int, height: int = 32) -> dict[str, float]:
    """How far results of a rolled picture are from rolled (and turned) results, at most."""
    rgb, columns = picture(height=height), tokens * PATCH
    with torch.no_grad():
        still, moved = model(rgb), model(rgb.roll(columns, dims=-1))
    turn = about_vertical(columns, 2 * height)

    def turned(vectors: Tensor, by: int) -> Tensor:
        return torch.einsum("ij,bjyx->biyx", turn.to(vectors), vectors.roll(by, dims=-1))

    pairs = {
        "semantic": (still.semantic.roll(columns, dims=-1), moved.semantic),
        "depth": (still.depth_m.roll(columns, dims=-1), moved.depth_m),
        "normal": (turned(still.normal, columns), moved.normal),
        "point_map": (
            turned(still.intermediate["point_map"], tokens),
            moved.intermediate["point_map"],
        ),
        "image_gradient": (
            still.intermediate["image_gradient"].roll(tokens, dims=-1),
            moved.intermediate["image_gradient"],
        ),
    }
    return {name: float((a - b).abs().max()) for name, (a, b) in pairs.items()}


def test_new_parts_leave_the_backbones_layers_as_they_are_to_the_bit() -> None:
    model, weights = build_mtpano(SMALL, CLASSES, seed=1)
    assert weights.random
    rgb = picture().float()
    with torch.no_grad():
        final, first = model.features(rgb)
        layers = model.backbone(rgb)
    assert set(first) == set(GROUPS)
    for task in SMALL.tasks:
        assert all(torch.equal(a, b) for a, b in zip(final[task], layers, strict=True)), task


def test_trained_parts_do_change_the_layers() -> None:
    """The test above would pass on parts that are not there."""
    model = trained(SMALL)
    layers = model.backbone(picture())
    full, _ = model.features(picture())
    for key in ("bridge", "mixers"):
        other = Mtpano(SMALL.model_copy(update={key: False}), CLASSES).double().eval()
        other.load_state_dict(model.state_dict(), strict=False)
        without, _ = other.features(picture())
        assert not torch.allclose(without["depth"][0], full["depth"][0]), key
        assert not torch.allclose(without["depth"][0], layers[0]), key


@pytest.mark.parametrize(("task", "stream"), [("normal", "invariant"), ("depth", "variant")])
def test_no_gradient_goes_into_the_other_groups_tasks(task: str, stream: str) -> None:
    """With truncation the other group's stream and small heads get exactly none; without, some."""
    for truncation in (True, False):
        model = trained(SMALL.model_copy(update={"truncation": truncation}))
        said: DensePrediction = model(picture())
        (said.normal if task == "normal" else said.depth_m).sin().sum().backward()
        others = [
            *model.streams[stream].parameters(),
            *(
                p
                for t, head in model.first.items()
                if GROUPS[t] == stream
                for p in head.features.parameters()
            ),
        ]
        reached = [p for p in others if p.grad is not None and p.grad.abs().max() > 0]
        assert bool(reached) is not truncation
        own = model.streams["variant" if stream == "invariant" else "invariant"]
        assert all(p.grad.abs().max() > 0 for p in own.parameters())
        assert all(p.grad.abs().max() > 0 for p in model.backbone.vit.patches.parameters())


def test_without_an_azimuth_a_turn_of_the_picture_is_a_turn_of_the_results() -> None:
    """Exact up to rounding, in float64 below 1e-9, for turns by two tokens: features are halved."""
    model = trained(SMALL.model_copy(update={"azimuth": "none"}))
    for tokens in (2, 6):
        assert max(differences(model, tokens).values()) < 1e-9
    assert max(differences(model, 1).values()) > 1e-6  # an odd token is approximate


def test_plain_heads_say_normals_in_local_axes_where_no_azimuth_is_known() -> None:
    """The small ViT knows no longitude: in world axes, heads on it cannot tell four walls apart."""
    found = {
        azimuth: differences_of_plain(
            trained(SMALL.model_copy(update={**BARE, "azimuth": azimuth}))
        )
        for azimuth in ("none", "absolute")
    }
    assert found["none"] < 1e-9 and found["absolute"] > 0.1
    settings = {**SMALL.model_dump(), **BARE, "azimuth": "none"}
    assert MtpanoSettings.model_validate(settings).azimuth == "none"
    with pytest.raises(ValueError, match=r"azimuth is 'ray', and without streams"):
        MtpanoSettings.model_validate({**settings, "azimuth": "ray"})


def differences_of_plain(model: Mtpano) -> float:
    """How far normals of a picture turned by two tokens are from turned normals, at most."""
    rgb, columns = picture(), 2 * PATCH
    with torch.no_grad():
        still, moved = (model(x).normal for x in (rgb, rgb.roll(columns, dims=-1)))
    turned = torch.einsum(
        "ij,bjyx->biyx", about_vertical(columns, 64), still.roll(columns, dims=-1)
    )
    return float((turned - moved).abs().max())


@pytest.mark.parametrize("azimuth", ["absolute", "ray"])
def test_an_azimuth_breaks_the_turn_of_normals_and_of_what_the_bridge_carries(azimuth: str) -> None:
    """The variant stream knows where it looks: its results do not turn until it has learnt so."""
    model = trained(SMALL.model_copy(update={"azimuth": azimuth}))
    found = differences(model, 2)
    assert found["normal"] > 1e-3 and found["point_map"] > 1e-3
    assert found["image_gradient"] < 1e-9  # before the bridge the invariant stream is exact
    assert 0 < found["depth"] < found["normal"]  # through the bridge
    alone = trained(SMALL.model_copy(update={"azimuth": azimuth, "bridge": False}))
    assert differences(alone, 2)["depth"] < 1e-9


def test_no_operation_knows_where_the_seam_is() -> None:
    """A roll by one column of each operation is a roll of its result, at every column."""
    features = torch.rand((1, 4, 6, 12), generator=torch.Generator().manual_seed(0)).double()
    for kernel in (1, 3, 5, (3, 9)):
        conv = SeamConv2d(4, 4, kernel, groups=4 if kernel == (3, 9) else 1).double()
        assert torch.allclose(conv(features.roll(1, -1)), conv(features).roll(1, -1))
    half = SeamConv2d(4, 4, 3, stride=2).double()
    assert torch.allclose(half(features.roll(2, -1)), half(features).roll(1, -1))
    from fractions import Fraction

    assert torch.allclose(enlarge(features.roll(1, -1), 2), enlarge(features, 2).roll(2, -1))
    by = Fraction(7, 4)
    assert enlarge(features[..., :4, :], by).shape[-2:] == (7, 21)
    assert torch.allclose(
        enlarge(features[..., :4, :].roll(4, -1), by), enlarge(features[..., :4, :], by).roll(7, -1)
    )


def test_enlarging_keeps_what_is_linear_inside_and_joins_the_last_column_to_the_first() -> None:
    ramp = torch.arange(8.0)[None, None, None].expand(1, 1, 2, 8)
    row = enlarge(ramp, 2)[0, 0, 0]
    assert torch.allclose(row[1:-1], torch.arange(14) / 2 + 0.25)
    assert torch.allclose(row[[0, -1]], torch.tensor([0.75 * 0 + 0.25 * 7, 0.75 * 7]))


def test_local_axes_are_right_handed_frames_whose_ray_is_the_pixels() -> None:
    axes, rays = local_axes(4, 8), ray_map(4, 8)
    assert torch.equal(axes[:, 2], rays)
    product = torch.einsum("wlyx,wmyx->lmyx", axes, axes)
    assert torch.allclose(product, torch.eye(3).double()[..., None, None].expand(3, 3, 4, 8))
    assert torch.allclose(torch.linalg.cross(axes[:, 0], axes[:, 1], dim=0), -axes[:, 2])
    forward = to_world(torch.tensor([0.0, 1.0, 0.0])[None, :, None, None].expand(1, 3, 4, 8))
    assert (forward[0, 2] > 0).all()  # up has no part downwards


def test_results_are_in_the_units_that_they_name() -> None:
    said = trained(SMALL)(picture(2))
    assert said.semantic.shape == (2, CLASSES, 32, 64)
    assert said.depth_m.shape == (2, 32, 64) and (said.depth_m > 0).all()
    assert torch.allclose((said.normal**2).sum(dim=1).sqrt(), torch.ones(1).double())
    assert {task: tuple(x.shape[1:]) for task, x in said.intermediate.items()} == {
        "semantic": (CLASSES, 4, 8),
        "depth": (4, 8),
        "normal": (3, 4, 8),
        "image_gradient": (2, 4, 8),
        "edge_distance": (4, 8),
        "point_map": (3, 4, 8),
    }
    plain = trained(SMALL.model_copy(update={**BARE, "tasks": ("depth",)}))(picture())
    assert plain.semantic is None and plain.normal is None and not plain.intermediate


def test_parts_that_are_off_are_not_there() -> None:
    def parameters(**off: object) -> int:
        model, _ = build_mtpano(MtpanoSettings(**{**SMALL.model_dump(), **off}), CLASSES)
        return sum(p.numel() for p in model.parameters())

    full = parameters()
    for off in ({"mixers": False}, {"bridge": False}, {"auxiliary": ()}, {"tasks": ("depth",)}):
        assert parameters(**off) < full, off
    assert parameters(truncation=False) == full
    model, _ = build_mtpano(MtpanoSettings(**{**SMALL.model_dump(), **BARE}), CLASSES)
    assert not model.streams and not model.first and not model.bridges and not model.adapters


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (1, 1, 64, 128), (3, 64, 128)])
def test_what_is_no_panorama_is_refused(shape: tuple[int, ...]) -> None:
    model, _ = build_mtpano(SMALL, CLASSES)
    with pytest.raises(DataError, match="twice as wide as high"):
        model(torch.rand(shape))
    with pytest.raises(DataError, match="multiple of 16 px"):
        model(torch.rand(1, 3, 72, 144))


def test_first_weights_are_the_seeds_and_leave_torchs_generator_alone() -> None:
    before = torch.random.get_rng_state()
    one, two, other = (build_mtpano(SMALL, CLASSES, seed=s)[1].sha256 for s in (4, 4, 5))
    assert one == two != other
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("kind", ["model.pt", "model.safetensors"])
def test_a_file_says_what_rebuilds_the_model(kind: str, tmp_path: Path) -> None:
    model = trained(SMALL.model_copy(update={"azimuth": "ray", "mixers": False})).float()
    export = export_official if kind == "model.pt" else export_safetensors
    path = export(tmp_path / kind, model.state_dict(), 7, describe(model))
    again = load_dense(path)
    assert again.settings == model.settings and again.classes == CLASSES and not again.training
    rgb = picture().float()
    with torch.no_grad():
        assert torch.equal(again(rgb).depth_m, model(rgb).depth_m)


def test_a_run_goes_on_from_a_file_under_another_label_set(tmp_path: Path) -> None:
    model = trained(SMALL).float()
    path = export_official(tmp_path / "model.pt", model.state_dict(), 7, describe(model))
    settings = SMALL.model_copy(update={"classes": "stanford13"})
    other, weights = build_mtpano(settings, 13, checkpoint=path)
    assert not weights.random
    fresh = {k for k, v in other.state_dict().items() if v.shape[:1] == (13,)}
    assert fresh == {
        f"{layer}.semantic.predict.{part}"
        for layer in ("first", "heads")
        for part in ("weight", "bias")
    }
    for key, value in other.state_dict().items():
        assert key in fresh or torch.equal(value, model.state_dict()[key])
    same, _ = build_mtpano(SMALL, CLASSES, checkpoint=path)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in same.state_dict().items())
    with pytest.raises(DataError, match="does not fit this MTPano"):
        build_mtpano(SMALL.model_copy(update={"bridge": False}), CLASSES, checkpoint=path)


def test_files_of_anything_else_are_refused_in_one_line(tmp_path: Path) -> None:
    model = trained(SMALL).float()
    state, said = model.state_dict(), json.loads(describe(model))
    cases: list[tuple[dict, str, str]] = [
        (state, "", "is no MTPano of pano train"),
        (state, "{", "cannot be read"),
        (state, json.dumps({**said, "classes": 10**9}), "expected 1 to 1000"),
        (state, json.dumps({**said, "settings": {"height_px": -1}}), "cannot be read"),
        (state, json.dumps({**said, "backbone": '{"model_type": "vit"}'}), "expected model_type"),
        (state, json.dumps({**said, "classes": 6}), "does not fit this MTPano"),
        (
            {**state, "backbone.vit.latitude.bias": torch.full((32,), torch.nan)},
            json.dumps(said),
            "NaN, infinity",
        ),
    ]
    for index, (weights, text, message) in enumerate(cases):
        path = export_official(tmp_path / f"{index}.pt", weights, 1, text)
        with pytest.raises(DataError, match=message) as refused:
            load_dense(path)
        assert ("\n" not in str(refused.value) and path.name in str(refused.value)) or index == 4


def test_a_backbone_folder_of_another_architecture_is_refused(tmp_path: Path) -> None:
    settings = BackboneSettings(folder=tmp_path, patch_px=14)
    with pytest.raises(DataError, match=r"there is no config\.json"):
        read_folder(settings)
    (tmp_path / "model.safetensors").write_bytes(b"")
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "patch_size": 14, "image_size": 28}
    for values, message in [
        ({"model_type": "vit", **sizes}, "expected model_type dinov2.*got 'vit'"),
        (
            {"architecture": "vit_small_patch14_dinov2", "num_features": 384},
            "got a folder of timm .'vit_small_patch14_dinov2'.*as transformers saves them",
        ),
        ({"model_type": "dinov2", **sizes, "hidden_size": 10**9}, "hidden_size is 1000000000"),
        ({"model_type": "dinov2", **sizes, "num_hidden_layers": 3}, "num_hidden_layers is 3"),
        ({"model_type": "dinov2", **sizes, "patch_size": 16}, "set that to 16"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps(values))
        with pytest.raises(ConfigError if "set that" in message else DataError, match=message):
            read_folder(settings)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov2", **sizes}))
    try:
        import transformers  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="needs the package transformers"):
            build_mtpano(MtpanoSettings(height_px=56, channels=32, backbone=settings), CLASSES)


KINDS = {
    "dinov2": (14, {"image_size": 56}),
    "dinov2_with_registers": (14, {"image_size": 56}),
    "dinov3_vit": (16, {"image_size": 64, "num_register_tokens": 4, "intermediate_size": 96}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_dinos_own_position_codes_break_a_turn_and_how_far(kind: str, tmp_path: Path) -> None:
    """Its codes end at the seam, so `azimuth: none` is approximate there. Of random weights."""
    transformers = pytest.importorskip("transformers", reason="an option: pip install transformers")
    patch_px, extra = KINDS[kind]
    sizes = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = transformers.AutoConfig.for_model(kind, patch_size=patch_px, **sizes, **extra)
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "folder")
    settings = MtpanoSettings(
        height_px=4 * patch_px,
        channels=32,
        azimuth="none",
        backbone=BackboneSettings(folder=tmp_path / "folder", patch_px=patch_px),
    )
    model = trained(settings)
    found = depth_of_a_turn(model, 4 * patch_px)
    assert 1e-5 < found < 0.1  # 0.2 % of depth with the learnt codes, 0.006 % with the rotary ones
    codes = [p for n, p in model.backbone.named_parameters() if "position_embeddings" in n]
    assert bool(codes) is kind.startswith("dinov2")
    if codes:
        codes[0].data.zero_()
        assert depth_of_a_turn(model, 4 * patch_px) < 1e-9  # nothing else breaks it


def depth_of_a_turn(model: Mtpano, height: int) -> float:
    """What a turn by two tokens changes in depth, turned back: the mean over pixels, relative."""
    rgb, columns = picture(height=height), 2 * height // 4
    with torch.no_grad():
        still, moved = (model(x).depth_m for x in (rgb, rgb.roll(columns, dims=-1)))
    return float((still.roll(columns, dims=-1) / moved - 1).abs().mean())


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_dino_is_the_backbone_and_the_file_rebuilds_without_it(
    kind: str, tmp_path: Path
) -> None:
    """The real classes of transformers, small, with random weights saved by `save_pretrained`."""
    transformers = pytest.importorskip("transformers", reason="an option: pip install transformers")
    patch_px, extra = KINDS[kind]
    sizes = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = transformers.AutoConfig.for_model(kind, patch_size=patch_px, **sizes, **extra)
    own = transformers.AutoModel.from_config(config).eval()
    own.save_pretrained(tmp_path / "folder")
    settings = MtpanoSettings(
        height_px=4 * patch_px,
        channels=32,
        backbone=BackboneSettings(folder=tmp_path / "folder", patch_px=patch_px),
    )
    model, weights = build_mtpano(settings, CLASSES)
    assert weights.source == "folder" and not weights.random
    rgb = picture(height=4 * patch_px).float()
    with torch.no_grad():
        last = model.eval().backbone(rgb)[-1].flatten(2).mT
        normalised = (rgb - model.backbone.mean) / model.backbone.std
        assert torch.allclose(last, own(normalised).last_hidden_state[:, -32:], atol=1e-5)
        expected = model(rgb).depth_m
    path = export_official(tmp_path / "model.pt", model.state_dict(), 1, describe(model))
    (tmp_path / "folder").rename(tmp_path / "gone")
    with torch.no_grad():
        assert torch.equal(load_dense(path)(rgb).depth_m, expected)
    torch.manual_seed(1)
    smaller = transformers.AutoConfig.for_model(
        kind, patch_size=patch_px, **{**sizes, "hidden_size": 32}, **extra
    )
    transformers.AutoModel.from_config(smaller).save_pretrained(tmp_path / "other")
    (tmp_path / "gone/model.safetensors").unlink()
    (tmp_path / "other/model.safetensors").rename(tmp_path / "gone/model.safetensors")
    (tmp_path / "gone").rename(tmp_path / "folder")
    with pytest.raises(DataError, match=r"does not fit its config\.json"):
        build_mtpano(settings, CLASSES)
