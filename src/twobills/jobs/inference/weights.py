"""A model folder on disk, checked and loaded: whole, fitting its config, and the weights it names.

A folder is Hugging Face's: ``config.json``, ``model.safetensors`` (or shards with an index),
``tokenizer.json``. Ours add ``twobills.json`` whose ``digest`` names the weights; a folder without it is
foreign and is served under the digest computed here. Pickle is never read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from twobills.errors import DigestError, ModelFolderError, SpecError
from twobills.jobs.device import TORCH_DTYPES
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.nn.digest import MANIFEST, weights_digest
from twobills.specs.dtype import DType
from twobills.specs.hf import read_config
from twobills.specs.model import ModelSpec, check_own_network

WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
_HEAD, _TABLE = "lm_head.weight", "model.embed_tokens.weight"


@dataclass(kw_only=True)
class LoadedModel:
    """A model read from a folder, ready to serve; ``digest_now`` says whether its weights changed since."""

    spec: ModelSpec
    folder: Path
    decoder: Decoder
    digest: str
    """Of the stored tensors, ``sha256:...``."""
    stored: Mapping[str, torch.dtype]
    """Names and formats of the tensors in the file."""
    eos_token_ids: frozenset[int]
    manifest: Mapping[str, Any] | None
    """What ``twobills.json`` says; None for a foreign folder."""
    _converted_digest: str | None = None

    @property
    def tokenizer_path(self) -> Path:
        """The folder's ``tokenizer.json``."""
        return self.folder / TOKENIZER

    def tokenizer(self) -> Tokenizer:
        """The folder's tokenizer. Raises ModelFolderError if it is damaged."""
        try:
            return Tokenizer.from_file(str(self.tokenizer_path))
        except Exception as error:  # the library raises nothing narrower
            raise ModelFolderError(f"{self.tokenizer_path}: not a readable tokenizer ({_one_line(error)})") from None

    @property
    def dtype(self) -> DType:
        """The format the embedding is stored in."""
        return next(ours for ours, theirs in TORCH_DTYPES.items() if theirs == self.stored[_TABLE])

    def convert(self, dtype: torch.dtype, device: torch.device) -> None:
        """Moves the live weights to a format and a device; the digest goes on naming the stored ones."""
        self.decoder.to(device=device, dtype=dtype)
        lossless = all(torch.promote_types(stored, dtype) == dtype for stored in self.stored.values())
        self._converted_digest = None if lossless else weights_digest(self._live())

    def digest_now(self) -> str:
        """The digest of the weights in memory, in their stored format; equals ``digest`` if untouched.

        If the live format is too narrow to give the stored bytes back, the live weights are compared with
        themselves just after conversion instead.
        """
        live = self._live()
        if self._converted_digest is None:
            return weights_digest({name: live[name].to(stored) for name, stored in self.stored.items()})
        now = weights_digest(live)
        return self.digest if now == self._converted_digest else now

    def _live(self) -> dict[str, Tensor]:
        state = self.decoder.state_dict()
        return {name: state[name] for name in self.stored}


def load_folder(folder: Path) -> LoadedModel:
    """The model in a folder, weights in their stored format, on the CPU.

    Raises ModelFolderError if something is missing, damaged or does not fit, DigestError if the weights are
    not those that ``twobills.json`` names.
    """
    if not folder.is_dir():
        raise ModelFolderError(f"{folder}: no such folder; give a folder with config.json and {WEIGHTS}")
    for name in ("config.json", TOKENIZER):
        if not (folder / name).is_file():
            raise ModelFolderError(f"{folder}: no {name}; a model folder has config.json, {WEIGHTS} and {TOKENIZER}")
    try:
        spec = read_config(folder / "config.json")
    except SpecError as error:
        raise ModelFolderError(str(error)) from None
    try:
        check_own_network(spec)
    except SpecError as error:
        raise ModelFolderError(f"{folder / 'config.json'}: {error}") from None
    state = _read_weights(folder)
    decoder = _build(spec, state, folder)
    manifest, digest = read_manifest(folder), weights_digest(state)
    if manifest is not None and manifest["digest"] != digest:
        raise DigestError(f"{folder}: {MANIFEST} names weights {manifest['digest']}, but these are {digest}")
    return LoadedModel(
        spec=spec,
        folder=folder,
        decoder=decoder,
        digest=digest,
        stored={name: tensor.dtype for name, tensor in state.items()},
        eos_token_ids=_eos_token_ids(folder),
        manifest=manifest,
    )


def read_manifest(folder: Path) -> Mapping[str, Any] | None:
    """What ``twobills.json`` says, None if there is none. Raises ModelFolderError if it is damaged."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    manifest = _read_json(path)
    if not isinstance(manifest.get("digest"), str):
        raise ModelFolderError(f"{path}: no digest; it must name its weights as digest = sha256:...")
    return manifest


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelFolderError(f"{path}: not readable JSON ({error})") from None
    if not isinstance(document, dict):
        raise ModelFolderError(f"{path}: must hold one JSON object")
    return document


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of the file or of its shards, by name."""
    state: dict[str, Tensor] = {}
    for path in _weight_files(folder):
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelFolderError(f"{path}: not a readable safetensors file ({_one_line(error)})") from None
        # Old exports store the rotary frequencies, which are no weights: they follow from the config.
        state.update((name, t) for name, t in tensors.items() if not name.endswith("rotary_emb.inv_freq"))
    return state


def _weight_files(folder: Path) -> list[Path]:
    single, index = folder / WEIGHTS, folder / f"{WEIGHTS}.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise ModelFolderError(f"{folder}: no {WEIGHTS}; weights must be safetensors (pickle is never read)")
    shards = _read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelFolderError(f"{index}: no weight_map; it must say which file holds each tensor")
    files = [folder / str(name) for name in sorted(set(shards.values()))]
    for path in files:
        if not path.is_file() or path.resolve().parent != folder.resolve():
            raise ModelFolderError(f"{index}: names {path.name}, which is not in the folder")
    return files


def _build(spec: ModelSpec, state: Mapping[str, Tensor], folder: Path) -> Decoder:
    """The network with these tensors as its parameters."""
    with torch.device("meta"):
        decoder = Decoder(spec)
    expected = {name: tensor.shape for name, tensor in decoder.state_dict().items()}
    given = dict(state)
    if spec.tied_embeddings and _TABLE in given:
        given.setdefault(_HEAD, given[_TABLE])
    misfit = _misfit(expected, given)
    if not misfit and spec.tied_embeddings and not torch.equal(given[_HEAD], given[_TABLE]):
        misfit = f"tie_word_embeddings is true, but {_HEAD} differs from {_TABLE}"
    if misfit:
        raise ModelFolderError(f"{folder}: weights do not fit config.json: {misfit}")
    decoder.load_state_dict(given, strict=True, assign=True)
    if spec.tied_embeddings:
        decoder.lm_head.weight = decoder.model.embed_tokens.weight
    return decoder.requires_grad_(False).eval()


def _misfit(expected: Mapping[str, torch.Size], given: Mapping[str, Tensor]) -> str | None:
    for name, shape in expected.items():
        if name not in given:
            return f"{name} is missing"
        if given[name].shape != shape:
            return f"{name} has shape {list(given[name].shape)}, must be {list(shape)}"
        if given[name].dtype not in TORCH_DTYPES.values():
            form = str(given[name].dtype).removeprefix("torch.")
            return f"{name} is stored as {form}, must be one of {', '.join(TORCH_DTYPES)}"
    if extra := sorted(set(given) - set(expected)):
        return f"{extra[0]} has no place in the model"
    return None


def _eos_token_ids(folder: Path) -> frozenset[int]:
    """End-of-text tokens from ``generation_config.json`` and ``config.json``; none if neither names any."""
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file() and (eos := _read_json(folder / name).get("eos_token_id")) is not None:
            return frozenset(int(token) for token in (eos if isinstance(eos, list) else [eos]))
    return frozenset()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
