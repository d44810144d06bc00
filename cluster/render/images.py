"""The digest of what shapes a run's images: one dataset must not mix two."""

from panoforge.core.config import config_sha256
from panoforge.core.storage.location import with_absolute_paths
from panoforge.datagen.config.render import RenderConfig

# What may differ between two renders of the same panoramas: how many are made, and where and how
# fast.
_NOT_PART_OF_THE_IMAGE = {"scenes", "threads", "time_limit_s"}
_NOT_PART_OF_A_SCENE = {"python", "overlay", "cache", "timeout_s"}  # of a source


def image_config_sha256(config: RenderConfig) -> str:
    """Digest of what shapes the pixels and labels.

    That is the render config less counts, threads and limits. Panoramas of equal digest and seed
    are the same panoramas.
    """
    plain = with_absolute_paths(config)  # one file has one digest, however it is named
    plain = plain.model_copy(
        update={
            **{name: RenderConfig.model_fields[name].default for name in _NOT_PART_OF_THE_IMAGE},
            "sources": tuple(
                source.model_copy(
                    update={
                        name: field.default
                        for name, field in type(source).model_fields.items()
                        if name in _NOT_PART_OF_A_SCENE
                    }
                )
                for source in plain.sources
            ),
        }
    )
    return config_sha256(plain)
