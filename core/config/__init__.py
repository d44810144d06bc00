"""Configs: read YAML, apply dotted overrides, resolve references, validate, print.

Behind this line no config is a loose dict. `load` does the steps in order, the other modules one
each. `yaml_text` reads and writes YAML, `references` resolves `${…}`. `keys` says what may stand at
a dotted key, `overrides` puts `key=value` there. `messages` explains what does not validate. `flat`
lets a job and its stage share one mapping. `explain` says what every key means, and `template`
writes a config with all of them.
"""

from panoforge.core.config.load import (
    config_from_overrides,
    config_sha256,
    config_yaml,
    load_config,
    top_level,
    yaml_of,
)

__all__ = [
    "config_from_overrides",
    "config_sha256",
    "config_yaml",
    "load_config",
    "top_level",
    "yaml_of",
]
