"""Freezing: a trained network becomes a Hugging Face folder, and its weights' digest becomes its name.

``transformers``, vLLM and llama.cpp's converter open the folder; ``twobills.json`` beside the weights adds the digest,
the lineage and the training bill. Written beside and renamed, so a folder is there whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from tokenizers import Tokenizer

from twobills.errors import RequestError
from twobills.jobs.chat_template import TEMPLATE_FILE, TOKENIZER_CONFIG, token_text
from twobills.jobs.data.codec import END_ID, END_OF_TEXT
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.nn.digest import MANIFEST, weights_digest
from twobills.specs.hf import to_hf

_SCRATCH = "-freezing-"
_HF_DTYPES = {"torch.bfloat16": "bfloat16", "torch.float32": "float32", "torch.float16": "float16"}


def freeze(
    network: Decoder,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    lineage: Mapping[str, Any],
    bill: Mapping[str, Any],
    chat_template: str | None = None,
    tokenizer_config: Mapping[str, Any] | None = None,
    eos_token_ids: Sequence[int] = (END_ID,),
) -> str:
    """Writes the model folder and returns the weights' digest. ``chat_template`` makes a prompt of a chat (Jinja).

    ``tokenizer_config`` and ``eos_token_ids`` (the first ends an answer) are those of a base made elsewhere, if given.
    An earlier model of ours at ``folder`` is replaced. Raises RequestError if something else is there.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if network.spec.tied_embeddings:
        del state["lm_head.weight"]
    digest = weights_digest(state)
    dtype = _HF_DTYPES[str(network.lm_head.weight.dtype)]
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f".{folder.name}{_SCRATCH}*"):  # of a process that was killed in here
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}{_SCRATCH}", dir=folder.parent) as scratch:
        part = Path(scratch) / folder.name
        part.mkdir()
        save_file(state, part / "model.safetensors", metadata={"format": "pt"})
        (part / "model.safetensors").chmod(0o666 & ~_umask())  # safetensors makes it readable by its owner only
        known = _tokenizer_config(network.spec.max_seq_len) if tokenizer_config is None else tokenizer_config
        special = _special_ids(tokenizer, known, eos_token_ids)
        _write_json(part / "config.json", {**to_hf(network.spec, dtype=dtype, eos_token_id=END_ID), **special})
        _write_json(part / "generation_config.json", special)
        tokenizer.save(str(part / "tokenizer.json"))
        template = {} if chat_template is None else {"chat_template": chat_template}
        _write_json(part / TOKENIZER_CONFIG, {**known, **template})
        if chat_template is not None:  # newer programs read this file, older ones the key beside
            (part / TEMPLATE_FILE).write_text(chat_template, encoding="utf-8")
        _write_json(part / MANIFEST, {"digest": digest, "lineage": lineage, "training_bill": bill})
        _put_in_place(part, folder, Path(scratch) / "replaced")
    return digest


def check_free(folder: Path) -> None:
    """Raises RequestError if a model may not be written to ``folder``: something that is not ours lies there."""
    if folder.exists() and not (folder / MANIFEST).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RequestError(f"{folder}: exists and is not a model of twobills; choose another --out")
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise RequestError(f"{folder}: {parent} is not a folder that can be written to; choose another --out")


def _tokenizer_config(max_seq_len: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_seq_len,
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
    }


def _special_ids(tokenizer: Tokenizer, config: Mapping[str, Any], eos_token_ids: Sequence[int]) -> dict[str, Any]:
    """The tokens that begin a text, if one does, and end it, as ``config.json`` names them."""
    begin = tokenizer.token_to_id(token_text(config.get("bos_token")))
    ends = [*eos_token_ids] if len(eos_token_ids) > 1 else eos_token_ids[0]
    return {"bos_token_id": begin, "eos_token_id": ends}


def _put_in_place(part: Path, folder: Path, replaced: Path) -> None:
    """Renames ``part`` to ``folder``; what was there is put back if that fails or is interrupted."""
    if folder.exists():
        folder.rename(replaced)
    try:
        part.rename(folder)
    except BaseException:
        if replaced.exists() and not folder.exists():
            replaced.rename(folder)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
