"""`pano card`: a dataset described for those who find it.

In the Hugging Face and the Croissant form.

    write_cards(Dataset.open("s3://bucket/dataset"), CardOptions(name="rooms4k",
    license="cc-by-4.0", url="https://…"))

Takes the index and the manifest, never a pixel; writes README.md (Hugging Face: YAML front matter
and text) and croissant.json (MLCommons Croissant 1.1) beside the manifest. Every number in them is
counted, none is typed. Both are functions of the dataset and the options, so writing them again
changes nothing. A file that says something else, edited by hand or of other options, is kept beside
the new one, with digits of its digest in its name.
"""

import hashlib
from pathlib import PurePosixPath

from panoforge.core.cards.croissant import croissant
from panoforge.core.cards.facts import CardOptions, facts_of
from panoforge.core.cards.huggingface import readme
from panoforge.core.errors import DataError
from panoforge.core.shards.layout import read_manifest
from panoforge.core.shards.read import Dataset
from panoforge.core.storage.lease import held

__all__ = ["CARD_NAMES", "CardOptions", "write_cards"]

CARD_NAMES = ("README.md", "croissant.json")


def write_cards(dataset: Dataset, options: CardOptions) -> tuple[str, ...]:
    """Write both cards into the dataset's folder.

    Returns:
        The names of the cards, then those under which earlier ones are kept.

    Raises:
        InUse: another process works on the dataset.
        DataError: one has changed it since it was opened.
    """
    kept, store = [], dataset.store
    with held(store, "pano card") as lease:
        if read_manifest(store) != dataset.manifest:
            raise DataError(f"{store} was packed or repaired meanwhile: describe it again")
        facts = facts_of(dataset)
        texts = (readme(facts, options), croissant(facts, options))
        lease.check()
        for name, data in zip(CARD_NAMES, (text.encode() for text in texts), strict=True):
            earlier = store.get(name)
            if earlier not in (None, data):
                kept.append(_kept_name(name, earlier))
                store.put(kept[-1], earlier)
            store.put(name, data)
    return *CARD_NAMES, *kept


def _kept_name(name: str, data: bytes) -> str:
    """`README.md` → `README-1a2b3c4d.md`."""
    path = PurePosixPath(name)
    return f"{path.stem}-{hashlib.sha256(data).hexdigest()[:8]}{path.suffix}"
