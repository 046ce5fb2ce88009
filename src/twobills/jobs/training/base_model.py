"""The model that fine-tuning begins with: its network ready to learn, a tokenizer and a template that can write chats.

Any folder that our engine can serve will do, ours or another's. A base without a chat template gets ChatML and, where
its vocabulary lacks them, the two tokens that begin and end a turn; their rows are drawn around the mean of the others
(Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models"), so that they change little at first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from twobills.errors import ModelFolderError
from twobills.jobs.chat_template import (
    CHATML,
    TURN_END,
    TURN_START,
    ChatTemplate,
    folder_template,
    special_tokens,
    tokenizer_config,
)
from twobills.jobs.data.codec import END_OF_TEXT
from twobills.jobs.inference.weights import load_folder
from twobills.jobs.nn.decoder import Decoder

SPREAD = 0.1
"""Standard deviation of a new row around the mean, relative to that of the others."""
_ROWS = ("model.embed_tokens.weight", "lm_head.weight")


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base, ready to be taught."""

    network: Decoder
    tokenizer: Tokenizer
    template_source: str
    template: ChatTemplate
    tokenizer_config: Mapping[str, Any]
    """What the folder says of its tokenizer."""
    digest: str
    """Of the weights as they were stored."""
    end_ids: frozenset[int]
    """Tokens at which the base ends a text."""
    n_added_tokens: int
    """New rows of the embedding."""
    manifest: Mapping[str, Any] | None
    """What ``twobills.json`` says; None for a foreign folder."""


def load_base(folder: Path, *, seed: int) -> Base:
    """The base in a folder. Raises ModelFolderError, in one line, where it cannot be served or its parts do not fit."""
    loaded = load_folder(folder)
    tokenizer, rows = loaded.tokenizer(), loaded.spec.vocab_size
    if (needed := _n_rows(tokenizer)) > rows:
        raise ModelFolderError(
            f"{folder}: its tokenizer.json has tokens up to {needed - 1}, its embedding {rows} rows; "
            "they are not of one model"
        )
    config = tokenizer_config(folder) or {"tokenizer_class": "PreTrainedTokenizerFast"}
    if "bos_token" not in config and tokenizer.token_to_id(END_OF_TEXT) in loaded.eos_token_ids:
        config["bos_token"] = END_OF_TEXT
    source, network = folder_template(folder), loaded.decoder
    if source is None:
        source = CHATML
        tokenizer.add_special_tokens([TURN_START, TURN_END])
        network = grown(network, max(rows, _n_rows(tokenizer)), torch.Generator().manual_seed(seed))
    return Base(
        network=network.requires_grad_(True).train(),
        tokenizer=tokenizer,
        template_source=source,
        template=ChatTemplate(source, special_tokens(config), where=str(folder)),
        tokenizer_config=config,
        digest=loaded.digest,
        end_ids=loaded.eos_token_ids,
        n_added_tokens=network.spec.vocab_size - rows,
        manifest=loaded.manifest,
    )


def grown(network: Decoder, n_rows: int, generator: torch.Generator) -> Decoder:
    """The network with ``n_rows`` rows of the embedding and the head; itself if it has them."""
    if n_rows == network.spec.vocab_size:
        return network
    spec = replace(network.spec, vocab_size=n_rows)
    state = dict(network.state_dict())
    for name in _ROWS[:1] if spec.tied_embeddings else _ROWS:
        state[name] = _with_rows(state[name], n_rows, generator)
    if spec.tied_embeddings:
        state[_ROWS[1]] = state[_ROWS[0]]
    with torch.device("meta"):
        larger = Decoder(spec)
    larger.load_state_dict(state, strict=True, assign=True)
    if spec.tied_embeddings:
        larger.lm_head.weight = larger.model.embed_tokens.weight
    return larger


def _with_rows(weight: Tensor, n_rows: int, generator: torch.Generator) -> Tensor:
    old = weight.detach().float()
    noise = torch.randn((n_rows - len(old), old.shape[1]), generator=generator)
    new = old.mean(dim=0) + SPREAD * old.std(dim=0) * noise
    return torch.cat((old, new)).to(weight.dtype)


def _n_rows(tokenizer: Tokenizer) -> int:
    """Rows that the tokenizer's largest id asks for."""
    return 1 + max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
