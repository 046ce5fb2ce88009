"""What does a second process bring, and does it change the loss?

The same steps of the same network (10.7M parameters, the global batch unchanged) by one process with one thread, by two
processes with one thread each, sharded (FSDP2) and replicated, and by one process with two threads, in turn for several
rounds. Efficiency is the tokens per second over those of one process with one thread, per core. The losses of all ways
are compared step by step.

One process takes the fast path for one process, several go through FSDP2 and gloo over the machine's loopback; so this
shows the price of that path on CPUs too. It says nothing about GPUs, NCCL or a network. On cores that others use too
the best step of all rounds is the fairest figure by the wall clock, and the median shows how busy the machine was.
Tokens per CPU-second (of process 0, taken for all) tell what the path costs in work, but not what waiting costs.

    python benchmarks/scale.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from twobills.counts.params import count_params
from twobills.jobs.data.batch import Batch
from twobills.jobs.device import usable_cores
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training.leading import LeadingStep, follow
from twobills.jobs.training.processes import joined
from twobills.jobs.training.step import TrainingStep
from twobills.meter.environment import environment
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.specs.training import TrainingSpec

WAYS = (("none", 1, 1), ("fsdp", 2, 1), ("ddp", 2, 1), ("none", 1, 2))
"""(how the network is shared, processes, threads of each)."""
FULL = {"n_layers": 6, "d_model": 384, "n_heads": 6, "n_kv_heads": 6, "d_ff": 1024, "batch_size": 16, "seq_len": 256}
QUICK = {"n_layers": 4, "d_model": 128, "n_heads": 4, "n_kv_heads": 4, "d_ff": 384, "batch_size": 8, "seq_len": 128}
VOCAB_SIZE = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small network, one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="of each way in each round, the first not timed")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        work(json.loads(asked.worker))
        return
    shape, rounds = (QUICK, 1) if asked.quick else (FULL, asked.rounds)
    found: dict[tuple[str, int, int], list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            found[way].append(run(way, shape, asked.steps, asked.dtype))
    show([summary(way, runs, found[WAYS[0]], shape) for way, runs in found.items()], shape, asked.dtype)


def run(way: tuple[str, int, int], shape: dict[str, int], n_steps: int, dtype: str) -> dict[str, Any]:
    """Seconds and losses of the steps, as process 0 saw them."""
    parallel, n, threads = way
    order = json.dumps({"parallel": parallel, "threads": threads, "n_steps": n_steps, "dtype": dtype, **shape})
    command = ["-m", "torch.distributed.run", "--nproc-per-node", str(n), __file__, "--worker", order]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def work(asked: dict[str, Any]) -> None:
    """What each process does."""
    parallel, threads, n_steps = asked["parallel"], asked["threads"], asked["n_steps"]
    model = model_of(asked)
    spec = TrainingSpec(
        n_steps=n_steps,
        batch_size=asked["batch_size"],
        seq_len=asked["seq_len"],
        dtype=DType(asked["dtype"]),
        heldout_tokens=0,
        parallel="auto" if parallel == "none" else parallel,
        compile=False,
    )
    with joined() as processes:
        if not processes.first:
            follow(processes)
            return
        torch.set_num_threads(threads)
        network = Decoder(model)
        network.initialise(torch.Generator().manual_seed(0))
        step = (
            TrainingStep(network, spec, processes.device) if processes.n == 1 else LeadingStep(network, spec, processes)
        )
        seconds, cpu_seconds, losses = [], [], []
        for i in range(n_steps):
            start, cpu_start = time.perf_counter(), time.process_time()
            losses.append(step(batch(i, spec), lr_scale=1.0).loss)
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(time.process_time() - cpu_start)
        n_threads = torch.get_num_threads()
        assert n_threads == threads, f"{n_threads} threads, not {threads}"
        sys.stdout.write(json.dumps({"seconds": seconds[1:], "cpu_seconds": cpu_seconds[1:], "losses": losses}) + "\n")


def model_of(shape: dict[str, Any]) -> ModelSpec:
    """The network of a shape."""
    return ModelSpec(
        name="scale",
        n_layers=shape["n_layers"],
        d_model=shape["d_model"],
        n_heads=shape["n_heads"],
        n_kv_heads=shape["n_kv_heads"],
        d_head=shape["d_model"] // shape["n_heads"],
        d_ff=shape["d_ff"],
        vocab_size=VOCAB_SIZE,
        max_seq_len=shape["seq_len"],
        tied_embeddings=True,
    )


def batch(step: int, spec: TrainingSpec) -> Batch:
    """Random walks, which can be learnt a little."""
    generator = torch.Generator().manual_seed(step)
    jumps = torch.randint(0, 8, (spec.batch_size, spec.seq_len + 1), generator=generator)
    tokens = jumps.cumsum(1) % VOCAB_SIZE
    return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


def summary(
    way: tuple[str, int, int], runs: list[dict[str, Any]], alone: list[dict[str, Any]], shape: dict[str, int]
) -> dict[str, Any]:
    """One way's figures, beside one process with one thread."""
    parallel, n, threads = way
    n_tokens = shape["batch_size"] * shape["seq_len"]
    seconds, alone_s = ([s for of in these for s in of["seconds"]] for these in (runs, alone))
    cpu_s, alone_cpu_s = (min(s for of in these for s in of["cpu_seconds"]) for these in (runs, alone))
    pairs = [(ours, its) for ours, its in zip(runs[0]["losses"], alone[0]["losses"], strict=True)]
    return {
        "parallel": parallel,
        "n_processes": n,
        "threads_each": threads,
        "tokens_per_s_best": n_tokens / min(seconds),
        "tokens_per_s_median": n_tokens / median(seconds),
        "efficiency_best": min(alone_s) / min(seconds) / (n * threads),
        "efficiency_median": median(alone_s) / median(seconds) / (n * threads),
        "tokens_per_cpu_s": n_tokens / (n * cpu_s),
        "cpu_efficiency": alone_cpu_s / (n * cpu_s),
        "largest_loss_difference_frac": max(abs(ours / its - 1) for ours, its in pairs),
        "n_steps_timed": len(seconds),
    }


def show(rows: list[dict[str, Any]], shape: dict[str, int], dtype: str) -> None:
    """A table for people, then the document."""
    batch_of = f"global batch {shape['batch_size']} x {shape['seq_len']}"
    table = Table(title=f"{dtype}, {batch_of}, {usable_cores()} shared cores")
    table.add_column("network")
    for column in ("processes x threads", "tokens/s", "per core", "median", "tokens per CPU-s", "", "loss off by"):
        table.add_column(column, justify="right")
    names = {"none": "whole", "fsdp": "sharded (FSDP2)", "ddp": "copied (DDP)"}
    for row in rows:
        table.add_row(
            names[row["parallel"]],
            f"{row['n_processes']} x {row['threads_each']}",
            f"{row['tokens_per_s_best']:.0f}",
            f"{row['efficiency_best']:.0%}",
            f"{row['efficiency_median']:.0%}",
            f"{row['tokens_per_cpu_s']:.0f}",
            f"{row['cpu_efficiency']:.0%}",
            f"{row['largest_loss_difference_frac']:.1e}",
        )
    Console(width=120).print(table)
    document = {
        "benchmark": "scale",
        "shape": {**shape, "vocab_size": VOCAB_SIZE, "n_params": count_params(model_of(shape)).total},
        "dtype": dtype,
        "cores": usable_cores(),
        "cores_are_shared": "others may use them: loads in the environment",
        "backend": "gloo over loopback",
        "ways": rows,
        "environment": environment(),
    }
    assert all(math.isfinite(row["tokens_per_s_best"]) for row in rows)
    sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    main()
