"""`pano card`: a dataset described for those who find it.

In the Hugging Face and the Croissant form.

    write_cards(Dataset.open("s3://bucket/dataset"), CardOptions(name="rooms4k",
    license="cc-by-4.0", url="https://…"))

Takes the index and the manifest, never a pixel; writes README.md (Hugging Face: YAML front matter
and text) and croissant.json (MLCommons Croissant 1.1) beside the manifest. Every number in them is
counted, none is typed. Both are functions of the dataset and the options, so writing them again
changes nothing.
"""

from panoforge.core.cards.croissant import croissant
from panoforge.core.cards.facts import CardOptions, facts_of
from panoforge.core.cards.huggingface import readme
from panoforge.core.shards.read import Dataset

__all__ = ["CARD_NAMES", "CardOptions", "write_cards"]

CARD_NAMES = ("README.md", "croissant.json")


def write_cards(dataset: Dataset, options: CardOptions) -> tuple[str, ...]:
    """Write both cards into the dataset's folder, and give their names."""
    facts = facts_of(dataset)
    for name, data in zip(
        CARD_NAMES, (readme(facts, options), croissant(facts, options)), strict=True
    ):
        dataset.store.put(name, data.encode())
    return CARD_NAMES
