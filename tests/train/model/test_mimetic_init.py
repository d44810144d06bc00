"""Mimetic first weights: a click's token looks at the click's place from the start, where random
weights look anywhere.
"""

import torch
from train_small import small_config

from panoforge.train.model.build import build_model
from panoforge.train.model.mimetic_init import PRESENT


def at_their_place(initial: str) -> float:
    """The share of attention that clicks in 16 cells give their own cell, in the mask decoder's
    first look at the image: the mean over cells and heads. 1/64 would be a look at anywhere.
    """
    config = small_config(model={"size": "micro", "initial": initial})
    model, _ = build_model(config.model, config.prompt)
    cells = [(row, column) for row in range(0, 8, 2) for column in range(0, 8, 2)]
    with torch.no_grad():
        clicks = torch.tensor([[[16.0 * column + 7.5, 16.0 * row + 7.5]] for row, column in cells])
        sparse, _ = model.sam_prompt_encoder(
            points=(clicks, torch.ones(16, 1, dtype=torch.int32)), boxes=None, masks=None
        )
        places = (
            model.sam_prompt_encoder.get_dense_pe().flatten(2).permute(0, 2, 1)
        )  # 1×64×C, the 8×8 cells of 128 px
        attention = model.sam_mask_decoder.transformer.layers[0].cross_attn_token_to_image
        q = attention._separate_heads(attention.q_proj(sparse[:, :1]), attention.num_heads)
        k = attention._separate_heads(attention.k_proj(places), attention.num_heads)
        weights = (
            (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1).mean(1)[:, 0]
        )  # clicks × cells
    return float(
        weights[torch.arange(16), torch.tensor([8 * row + column for row, column in cells])].mean()
    )


def test_a_click_is_looked_up_by_its_place():
    assert at_their_place("sam2") < 2 / 64
    assert at_their_place("mimetic") > 6 / 64


def test_every_object_is_present_and_memory_adds_nothing_at_first(source):
    """Objectness is one number whatever the picture; what memory attention gives is its input,
    normalised. SAM2's own differ.
    """
    for initial in ("mimetic", "sam2"):
        config = small_config(model={"size": "micro", "initial": initial})
        model, _ = build_model(config.model, config.prompt)
        model.eval()
        with torch.no_grad():
            scores = torch.cat(
                [out["multistep_object_score_logits"][0] for out in model(source.batch((0, 1)))]
            )
            image, memory, places = (
                torch.randn(64, 2, 128),
                torch.randn(64, 2, 64),
                torch.randn(64, 2, 128),
            )
            seen = model.memory_attention(
                curr=image, curr_pos=places, memory=memory, memory_pos=torch.randn(64, 2, 64)
            )
            plain = model.memory_attention.norm(image + 0.1 * places)
        assert bool((scores == PRESENT).all()) == (initial == "mimetic")
        assert torch.allclose(seen, plain, atol=1e-6) == (initial == "mimetic")


def test_it_is_for_random_weights_and_a_function_of_the_seed(tmp_path):
    from panoforge.train.model.checkpoint_export import export_official

    config = small_config(model={"size": "micro", "initial": "mimetic"})
    one, two, other = (build_model(config.model, config.prompt, seed=s)[0] for s in (0, 0, 1))
    name = "sam_mask_decoder.transformer.final_attn_token_to_image.q_proj.weight"
    assert torch.equal(one.state_dict()[name], two.state_dict()[name])
    assert not torch.equal(one.state_dict()[name], other.state_dict()[name])
    path = export_official(tmp_path / "model.pt", other.state_dict(), 1)
    settings = small_config(
        model={"size": "micro", "checkpoint": str(path)},
        mixture="panoramas-only",
    ).model
    loaded, _ = build_model(settings, config.prompt)
    assert torch.equal(
        loaded.state_dict()[name], other.state_dict()[name]
    )  # a checkpoint's weights stay as they are
