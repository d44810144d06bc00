"""Cross-entropy plus Dice of class maps, void pixels left out.

    ce   = mean over known pixels of −log softmax(x)_t
    dice = 1 − mean over the classes that the truth has of (2 Σ p·t + 1) / (Σ p + Σ t + 1)

Both with the pixels' weights; Dice per panorama.
"""

from torch import Tensor
from torch.nn.functional import cross_entropy

from panoforge.core.categories.class_sets import VOID
from panoforge.train.losses.dense.terms import masked_mean


def semantic_term(logits: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Ce + dice of logits B×K×H×W against int64 B×H×W, B numbers."""
    known = truth != VOID
    mask = known[:, None]
    plain = cross_entropy(logits, truth, ignore_index=VOID, reduction="none")[:, None]
    return masked_mean(plain, mask, weights) + dice_term(logits, truth, mask * weights)


def dice_term(logits: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """Dice above, B; `counted` B×1×H×W are weights of pixels, 0 where void."""
    classes = logits.shape[1]
    flat = counted.flatten(1)
    predicted = (logits.softmax(dim=1) * counted).flatten(2)
    target = truth.clamp(max=classes - 1).flatten(1)
    hit = predicted.gather(1, target[:, None])[:, 0]  # B×N, already weighted
    zeros = predicted.new_zeros(len(logits), classes)
    both = zeros.scatter_add(1, target, hit)
    size = zeros.scatter_add(1, target, flat.to(predicted.dtype))
    ratio = (2 * both + 1) / (predicted.sum(dim=2) + size + 1)
    there = (size > 0).to(ratio.dtype)
    worst = (there * (1 - ratio)).sum(dim=1)
    return worst / there.sum(dim=1).clamp(min=1)


def nearest(truth: Tensor, height: int) -> Tensor:
    """A class map B×H×W at h×2h by the pixels in the middle of each cell."""
    step = truth.shape[1] // height
    return truth[:, step // 2 :: step, step // 2 :: step]
