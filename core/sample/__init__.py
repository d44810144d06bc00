"""The sample format: products, metadata, the instance table, the array codec, label maps."""
