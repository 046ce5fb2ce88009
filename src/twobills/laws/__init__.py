"""QUALITY: how good a model gets for its size and data. Speaks loss and FLOPs, never dollars."""
