"""A random model small enough for a test, in memory and as a folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from twobills.jobs.inference.weights import LoadedModel
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.nn.digest import weights_digest
from twobills.specs.hf import to_hf
from twobills.specs.model import ModelSpec

TINY = ModelSpec(
    name="tiny", n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, d_head=8, d_ff=48, vocab_size=97,
    max_seq_len=128, tied_embeddings=True,
)  # fmt: skip


def random_decoder(model: ModelSpec = TINY, seed: int = 0) -> Decoder:
    """Random weights, large enough that greedy answers wander."""
    decoder = Decoder(model)
    decoder.initialise(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if parameter.dim() == 2 and "embed" not in name:
                parameter.mul_(8)
    return decoder


def stored_state(decoder: Decoder) -> dict[str, Tensor]:
    """The tensors that a folder stores: a tied head only once."""
    state = dict(decoder.state_dict())
    if decoder.spec.tied_embeddings:
        del state["lm_head.weight"]
    return state


def load(model: ModelSpec = TINY, seed: int = 0) -> LoadedModel:
    """As ``load_folder`` returns it, without a folder."""
    decoder = random_decoder(model, seed).requires_grad_(False)
    state = stored_state(decoder)
    return LoadedModel(
        spec=model, folder=Path("nowhere"), decoder=decoder, digest=weights_digest(state),
        stored={name: tensor.dtype for name, tensor in state.items()}, eos_token_ids=frozenset(),
        manifest=None,
    )  # fmt: skip


def write_folder(folder: Path, model: ModelSpec = TINY, *, manifest: bool = False) -> dict[str, Tensor]:
    """A folder with random weights; the tensors in it."""
    folder.mkdir(exist_ok=True)
    state = stored_state(random_decoder(model))
    save_file(state, folder / "model.safetensors")
    config = to_hf(model, dtype="float32", eos_token_id=0)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    if manifest:
        (folder / "twobills.json").write_text(json.dumps({"digest": weights_digest(state)}))
    return state
