"""ScanSAM2 against upstream's SAM2Train: the same step where upstream is right, and each boxed
defect shown upstream.
"""

import itertools

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from sam2.modeling.sam2_utils import DropPath
from train_small import small_config
from training.loss_fns import MultiStepMultiMasksAndIous
from training.model.sam2 import SAM2Train

from panoforge.train.data.plan import prompt_rng
from panoforge.train.losses.build import build_loss
from panoforge.train.model.build import build_model, model_config
from panoforge.train.model.scan_sam2 import blank_absent_boxes, frozen_modules, is_frozen

CONFIG = small_config(model={"drop_path": 0.0}, prompt={"corrections": 2})


def official(config):
    """Upstream's class with upstream's way of freezing, from the same YAML and the same random
    weights.
    """
    node = model_config(config.model, config.prompt)
    node._target_ = "training.model.sam2.SAM2Train"
    node.freeze_image_encoder = True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return instantiate(node).train()


@pytest.fixture(scope="module")
def present(source):
    """Two clips whose objects are in view in every frame: upstream's boxes of empty masks cannot
    occur.
    """
    seen = [p for p in range(60) if source.batch((p,)).masks.flatten(2).any(dim=2).all()]
    return source.batch(tuple(seen[:2]))


def step_of(model, loss, batch, seed: int, *extra):
    """Loss and gradients of one forward and backward pass, prompts and noise from `seed`."""
    model.zero_grad(set_to_none=True)
    model.rng = prompt_rng(seed, 0)
    torch.manual_seed(seed)
    losses = loss(model(batch), batch.masks, *extra)
    total = losses.get("core_loss", losses.get("loss"))
    total.backward()
    return total.item(), {
        name: p.grad for name, p in model.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("seed", [0, 1, 2, 5])
def test_one_step_equals_upstreams(present, seed: int):
    """Loss and every gradient to 1e-5 relative, over draws that include mask, box and click
    prompts.
    """
    ours, theirs = build_model(CONFIG.model, CONFIG.prompt, seed=0)[0], official(CONFIG)
    weights = {"loss_mask": 20, "loss_dice": 1, "loss_iou": 1, "loss_class": 1}
    their_loss = MultiStepMultiMasksAndIous(
        weights,
        supervise_all_iou=True,
        iou_use_l1_loss=True,
        pred_obj_scores=True,
        focal_gamma_obj_score=0.0,
        focal_alpha_obj_score=-1.0,
    )
    a, our_gradients = step_of(ours, build_loss(CONFIG.loss), present, seed, present.masks.shape[1])
    b, their_gradients = step_of(theirs, their_loss, present, seed)
    assert a == pytest.approx(b, rel=1e-5)
    assert our_gradients.keys() == their_gradients.keys() and len(our_gradients) > 50
    scale = max(g.abs().max() for g in their_gradients.values())
    for name, gradient in their_gradients.items():
        assert torch.allclose(our_gradients[name], gradient, rtol=1e-5, atol=1e-5 * scale), name


def test_the_seeds_above_cover_every_kind_of_prompt(present):
    """Otherwise the comparison would be of one path only."""
    model, kinds = official(CONFIG), set()
    for seed in (0, 1, 2, 5):
        model.rng = prompt_rng(seed, 0)
        out = model.prepare_prompt_inputs({}, present)
        kinds |= {"mask"} if out["mask_inputs_per_frame"] else set()
        kinds |= {
            "box" if p["point_labels"].shape[1] == 2 else "click"
            for p in out["point_inputs_per_frame"].values()
        }
    assert kinds == {"mask", "box", "click"}


def test_frozen_encoder_is_in_eval_mode_and_holds_no_graph(source):
    config = small_config(model={"drop_path": 0.1})
    ours, _ = build_model(config.model, config.prompt)
    drops = [m for m in ours.image_encoder.modules() if isinstance(m, DropPath)]
    assert drops and not any(m.training for m in drops)
    assert ours.memory_attention.training and ours.training
    ours.eval().train()  # validation and back
    assert not any(m.training for m in drops) and ours.memory_attention.training
    images = source.batch((0,)).flat_img_batch
    one, two = ours.forward_image(images), ours.forward_image(images)
    assert (
        torch.equal(one["vision_features"], two["vision_features"])
        and not one["vision_features"].requires_grad
    )
    assert one["backbone_fpn"][
        0
    ].requires_grad  # conv_s0 belongs to the mask decoder and is trained

    theirs = official(config)  # upstream's frozen encoder drops blocks at random
    with torch.no_grad():
        assert not torch.equal(
            theirs.forward_image(images)["vision_features"],
            theirs.forward_image(images)["vision_features"],
        )


def test_trained_encoder_gets_gradients():
    config = small_config(model={"frozen": ["memory_encoder"]}, clip={"frames": 1})
    model, _ = build_model(config.model, config.prompt)
    assert model.image_encoder.training and not model.memory_encoder.training
    features = model.forward_image(torch.randn(1, 3, 128, 128))["vision_features"]
    features.sum().backward()
    assert model.image_encoder.trunk.patch_embed.proj.weight.grad is not None


def test_box_of_an_absent_object_is_no_prompt(source):
    """facebookresearch/sam2#470: upstream prompts with the box [W, H, -1, -1] of an empty mask."""
    config = small_config(prompt={"points": 1.0, "box": 1.0})
    batch = source.batch((0,))
    batch.masks[1:] = False  # the object is in the first frame only
    seed = next(s for s in itertools.count() if len(prompted(official(config), batch, s)) == 2)
    bad = prompted(official(config), batch, seed)
    frame = max(bad)
    assert bad[frame]["point_labels"].tolist()[0] == [2, 3]
    assert (
        bad[frame]["point_coords"][0, 0] > bad[frame]["point_coords"][0, 1]
    ).all()  # corners the wrong way round
    good = prompted(build_model(config.model, config.prompt)[0], batch, seed)
    assert (good[frame]["point_labels"] == -1).all() and not good[frame]["point_coords"].any()
    assert good[0]["point_labels"].tolist() == bad[0]["point_labels"].tolist()
    assert torch.equal(
        good[0]["point_coords"], bad[0]["point_coords"]
    )  # a present object's box is untouched


def prompted(model: SAM2Train, batch, seed: int) -> dict:
    model.rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    return model.prepare_prompt_inputs({}, batch)["point_inputs_per_frame"]


def test_only_empty_boxes_are_blanked():
    masks = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    masks[0, 0, 2:4, 2:4] = True
    boxes = {
        "point_coords": torch.full((3, 2, 2), 5.0),
        "point_labels": torch.tensor([[2, 3]] * 3, dtype=torch.int32),
    }
    blank_absent_boxes(boxes, masks)
    assert boxes["point_labels"].tolist() == [[2, 3], [-1, -1], [-1, -1]]
    clicks = {
        "point_coords": torch.full((3, 1, 2), 5.0),
        "point_labels": torch.zeros((3, 1), dtype=torch.int32),
    }
    blank_absent_boxes(clicks, masks)  # a negative click on the background is a fair prompt
    assert clicks["point_labels"].tolist() == [[0]] * 3


def test_frozen_modules_are_the_topmost(tiny_model):
    assert frozen_modules(tiny_model) == [tiny_model.image_encoder]
    assert is_frozen(tiny_model.image_encoder) and not is_frozen(tiny_model)
