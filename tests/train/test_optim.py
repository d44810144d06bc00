"""Parameter groups against upstream's own layer-decay arithmetic; the schedule at its ends."""

import pytest
from train_small import small_config

from panoforge.train.model.build import build_model
from panoforge.train.optim import (
    build_optimizer,
    learning_rate,
    lr_scale,
    place,
    set_learning_rates,
)


def test_layer_decay_is_upstreams():
    from training.optimizer import layer_decay_param_modifier

    config = small_config(model={"frozen": []})
    model, _ = build_model(config.model, config.prompt)
    names = {name for name, _ in model.named_parameters()}
    encoder = {name for name in names if name.startswith("image_encoder.")}
    groups = layer_decay_param_modifier(
        [[{"option": "lr", "scheduler": lambda where: 3e-6, "parameter_names": set(encoder)}]],
        model,
        0.9,
        apply_to="image_encoder.trunk",
        overrides=[{"pattern": "*pos_embed*", "value": 1.0}],
    )
    theirs = {
        name: group["scheduler"](0.0) for group in groups[0] for name in group["parameter_names"]
    }
    ours = {
        name: learning_rate(place(name, len(model.image_encoder.trunk.blocks)), config.optim)
        for name in encoder
    }
    assert theirs.keys() == ours.keys()
    for name, rate in theirs.items():
        assert ours[name] == pytest.approx(
            rate if name.startswith("image_encoder.trunk") else 3e-6
        ), name
    assert learning_rate(place("memory_attention.norm.weight", 12), config.optim) == config.optim.lr

    optimizer = build_optimizer(model, config.optim)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)
    by_id = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    for name, parameter in model.named_parameters():
        plain = (
            "bias" in name
            or "norm" in name
            or (parameter.dim() == 1 and ".layers." in name and "norm" in name)
        )
        if plain:
            assert by_id[id(parameter)] == 0.0, name
    assert (
        by_id[id(model.sam_mask_decoder.iou_prediction_head.layers[0].weight)]
        == config.optim.weight_decay
    )


def test_frozen_parameters_are_in_no_group(tiny_model):
    optimizer = build_optimizer(tiny_model, small_config().optim)
    trained = {id(p) for p in tiny_model.parameters() if p.requires_grad}
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == trained
    assert not trained & {id(p) for p in tiny_model.image_encoder.parameters()}


def test_cosine_from_one_to_a_tenth():
    optim = small_config().optim
    scales = [lr_scale(step, 100, optim) for step in range(101)]
    assert (
        scales[0] == 1 and scales[50] == pytest.approx(0.55) and scales[100] == pytest.approx(0.1)
    )
    assert scales == sorted(scales, reverse=True)


def test_warmup_rises_then_falls():
    optim = small_config(optim={"warmup_steps": 4}).optim
    scales = [lr_scale(step, 20, optim) for step in range(20)]
    assert scales[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0]) and scales[5] < 1


def test_rates_scale_from_their_first_value(tiny_model):
    optimizer = build_optimizer(tiny_model, small_config().optim)
    first = [group["lr"] for group in optimizer.param_groups]
    for scale in (0.5, 0.1, 1.0):
        set_learning_rates(optimizer, scale)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
            [lr * scale for lr in first]
        )
