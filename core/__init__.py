"""What every stage of panoforge shares: the sphere, the scan, the sample, the shards, the config
and the `pano` command.
"""

__version__ = "0.2.0"
