"""The pocket world: its generator, its training script and its shipped models."""
