"""The identity of a frozen model: a digest over its weights' names, formats, shapes and bytes.

Whatever the order of the tensors or the files they are spread over, the same weights have the same digest. It stands
in ``twobills.json`` beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

MANIFEST = "twobills.json"
"""The file beside the weights that names their digest."""


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """``sha256:...`` of the tensors, whatever their order or the file they lie in."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"
