"""What every stage of panoforge shares: the sphere, the scan, the sample, the shards, the config."""

__version__ = "0.2.0"
