"""Our own training step as ``twobills train`` takes it, timed as the peers of ``peer_training`` are.

    python benchmarks/our_training.py gated DATA.npy --threads 1 --steps 4

``gated`` and ``relu2`` are the two MLPs; ``-compiled`` compiles the step, ``-muon`` takes Muon in AdamW's place.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch

from timed_steps import CONTEXT, HEADS, LAYERS, ROWS, VOCABULARY, WIDTH, batches, timed
from twobills.jobs.data.batch import Batch
from twobills.jobs.device import Device
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training.step import TrainingStep
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.specs.training import TrainingSpec

OURS = ("gated", "relu2", "gated-compiled", "relu2-compiled", "gated-muon")


def model_of(name: str) -> ModelSpec:
    """The 10.7M-parameter shape with either MLP; both have the same number of matrix parameters."""
    gated = name.startswith("gated")
    return ModelSpec(
        name=name,
        n_layers=LAYERS,
        d_model=WIDTH,
        n_heads=HEADS,
        n_kv_heads=HEADS,
        d_head=WIDTH // HEADS,
        d_ff=8 * WIDTH // 3 if gated else 4 * WIDTH,
        vocab_size=VOCABULARY,
        max_seq_len=CONTEXT,
        tied_embeddings=True,
        gated_mlp=gated,
        activation="silu" if gated else "relu2",
    )


def our_step(name: str, data: Path, n_threads: int) -> Callable[[int], float]:
    """One step of ours."""
    network = Decoder(model_of(name))
    network.initialise(torch.Generator().manual_seed(0))
    spec = TrainingSpec(
        n_steps=1000,
        batch_size=ROWS,
        seq_len=CONTEXT,
        dtype=DType.BF16,
        heldout_tokens=0,
        optimizer="muon" if name.endswith("muon") else "adamw",
        lr=1e-3,
        compile=name.endswith("compiled"),
    )
    step, batch = TrainingStep(network, spec, Device(torch.device("cpu"), "CPU", n_threads, 1e12)), batches(data)
    return lambda i: step(Batch(*batch(i)), lr_scale=1.0).loss


def main() -> None:
    """Times one of ours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=OURS)
    parser.add_argument("data", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(json.dumps(timed(our_step(given.name, given.data, given.threads), given.threads, given.steps)))


if __name__ == "__main__":
    main()
