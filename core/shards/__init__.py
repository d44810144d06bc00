"""Shards: write, index, verify and read WebDataset tars that cannot lie.

    dataset/
      manifest.json                     names every file below; renamed into place last
      shards/train-000000-1a2b3c4d.tar  plain tar, plain WebDataset; the name ends with the digest's
      first 8 digits
      index/samples-….parquet           one row per sample: shard, byte ranges, digest, pose, counts
      index/instances-….parquet         one row per instance: category, area, box, flags

      quarantine/                       what `pano repair` took out

The folder is a path or any fsspec URL. What the manifest does not name does not exist. Names carry
digests, so a new state never writes over a file of the old one: whenever a writer dies, readers see
the old dataset or the new one, whole.

Modules:

- `layout` (names, manifest, index schemas), `index` (reading it) and `tar` (canonical headers)
- `plan` (which sample goes where), `build` (one shard; the commit) and `write` (packing, and
  publishing while scenes are made)
- `read` and `query`
- `verify`, `salvage` (what a shard still holds), `states` (what a dataset may be),
  `contents` (files by digest), `quarantine` and `repair`
"""
