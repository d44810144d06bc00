"""What every stage of panoforge shares: the sphere, the scan, the sample, the shards, configs."""

__version__ = "0.2.0"
