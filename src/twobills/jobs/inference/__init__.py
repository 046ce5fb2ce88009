"""INFERENCE: the model used: weights frozen, forward only, requests in, tokens out."""
