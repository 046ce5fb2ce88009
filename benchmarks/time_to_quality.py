"""Bits per byte after equal CPU time: our trainer, and a tuned GPT-2-style AdamW loop, from the same tokens.

Why: speed and learning are worth nothing alone (issue 5: better by at least 0.08 after five minutes). Both sides get
one thread, the same tokenizer, sequences and held-out documents, and the same budget of tuning: so many short runs,
drawn by the same seed from a space that each side states, the best of which then runs for the whole time. Time is CPU
time of the process, as the machine is shared; reading data and evaluating are not counted, the schedule knows how much
is left. `--ablate` instead changes one thing of ours at a time, and `--combine` several: so architecture, optimiser
and schedule were chosen (`docs/log.md`).
What it does not show: other sizes of machine, hours instead of minutes, luck (one seed a run unless --seeds says more).

    python benchmarks/time_to_quality.py [--quick] [--seconds 300] [--tuning-runs 8] [--tuning-seconds 60] [--ablate]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

BAR_BITS = 0.08
SEQ_LEN, VOCAB_SIZE = 256, 4096
Config = dict[str, Any]

OURS: Config = {"d_model": 128, "n_layers": 4, "d_head": 64, "kv_share": 2, "mlp": "silu", "ff": 2.5, "tied": True}
OURS |= {"qk_norm": False, "optimizer": "muon", "lr": 6e-3, "muon_lr": 0.01, "weight_decay": 0.1, "batch_size": 8}
OURS |= {"warmup_frac": 0.03, "cooldown_frac": 0.5}
PLAIN: Config = {"d_model": 128, "n_layers": 4, "d_head": 64, "lr": 2e-3, "weight_decay": 0.1, "batch_size": 8}

OUR_SPACE: dict[str, list[Any]] = {
    "d_model": [128, 192, 256],
    "n_layers": [4, 6],
    "lr": [3e-3, 6e-3, 1.2e-2],
    "muon_lr": [0.005, 0.01, 0.02],
    "batch_size": [4, 8, 16],
}
PLAIN_SPACE: dict[str, list[Any]] = {
    "d_model": [128, 192, 256],
    "n_layers": [4, 6],
    "lr": [5e-4, 1e-3, 2e-3, 4e-3, 8e-3],
    "batch_size": [4, 8, 16],
}
ABLATIONS: dict[str, Config] = {
    "as it is": {},
    "relu² instead of a gated MLP of the same parameters": {"mlp": "relu2", "ff": 3.75},
    "queries and keys normalised": {"qk_norm": True},
    "a head of its own": {"tied": False},
    "as many key-value heads as queries": {"kv_share": 1},
    "heads of 32": {"d_head": 32},
    "AdamW for all, 3e-3": {"optimizer": "adamw", "lr": 3e-3},
    "AdamW for all, 6e-3": {"optimizer": "adamw"},
    "Muon at 0.04": {"muon_lr": 0.04},
    "Muon at 0.02": {"muon_lr": 0.02},
    "Muon at 0.005": {"muon_lr": 0.005},
    "AdamW's part at 1.2e-2": {"lr": 1.2e-2},
    "AdamW's part at 3e-3": {"lr": 3e-3},
    "no weight decay": {"weight_decay": 0.0},
    "cool-down over all of it": {"cooldown_frac": 0.97},
    "cool-down over a fifth": {"cooldown_frac": 0.2},
    "batches of 4": {"batch_size": 4},
    "batches of 16": {"batch_size": 16},
    "6 layers": {"n_layers": 6},
    "2 layers": {"n_layers": 2},
    "192 wide": {"d_model": 192},
}
"""One thing changed at a time, in short runs."""
COMBINATIONS: dict[str, Config] = {
    "as it is": {},
    "Muon at 0.02": {"muon_lr": 0.02},
    "Muon at 0.005": {"muon_lr": 0.005},
    "AdamW's part at 1.2e-2": {"lr": 1.2e-2},
    "relu²": {"mlp": "relu2", "ff": 3.75},
    "batches of 16": {"batch_size": 16},
    "batches of 16, AdamW's part at 1.2e-2, relu²": {"lr": 1.2e-2, "batch_size": 16, "mlp": "relu2", "ff": 3.75},
    "192 wide": {"d_model": 192},
}
"""What did best there, and what gains with time, together, in runs of the whole length."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a sketch: seconds instead of minutes, says nothing")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--tuning-runs", type=int, default=8)
    parser.add_argument("--tuning-seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--ablate", action="store_true", help="one thing of ours changed at a time, --tuning-seconds each"
    )
    parser.add_argument("--combine", action="store_true", help="what that found, together, --seconds each")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="runs at once, one thread each")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a run in a process of its own
    asked = parser.parse_args()
    if asked.quick:
        asked.seconds, asked.tuning_runs, asked.tuning_seconds = 10.0, 2, 5.0
    if asked.one:
        print(json.dumps(one_run(json.loads(asked.one))))
        return
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(asked.workers) as pool:
        tokens = Path(folder) / "tokens.npz"
        prepare(tokens)

        def run_all(runs: list[Config]) -> list[Config]:
            return list(pool.map(lambda config: in_a_process({**config, "tokens": str(tokens)}), runs))

        if asked.ablate:
            document = changed(ABLATIONS, asked.tuning_seconds, asked.seeds, run_all)
        elif asked.combine:
            document = changed(COMBINATIONS, asked.seconds, asked.seeds, run_all)
        else:
            document = compare(asked, run_all)
    print(json.dumps({"benchmark": "time_to_quality", **document}))


def compare(asked: argparse.Namespace, run_all: Callable[[list[Config]], list[Config]]) -> Config:
    """Both sides tuned, then run for the whole time."""
    sides = {"ours": (OURS, OUR_SPACE), "plain": (PLAIN, PLAIN_SPACE)}
    tuning = [
        {**config, "side": side, "seconds": asked.tuning_seconds, "seed": 0}
        for side, (base, space) in sides.items()
        for config in drawn(base, space, asked.tuning_runs)
    ]
    tuned = run_all(tuning)
    best = {
        side: min((run for run in tuned if run["side"] == side), key=lambda run: run["bits_per_byte"]) for side in sides
    }
    finals = [
        {**stripped(best[side]), "seconds": asked.seconds, "seed": 1 + seed}
        for side in sides
        for seed in range(asked.seeds)
    ]
    done = run_all(finals)
    for run in [*tuned, *done]:
        print(row(run))
    means = {side: mean([run["bits_per_byte"] for run in done if run["side"] == side]) for side in sides}
    gain = means["plain"] - means["ours"]
    print(f"\nbits per byte after {asked.seconds:g} CPU-seconds: {means['ours']:.3f}; plain {means['plain']:.3f}")
    return {"bits_per_byte": means, "better_by": gain, "bar": BAR_BITS, "runs": done, "tuning": tuned}


def changed(
    changes: dict[str, Config], seconds: float, n_seeds: int, run_all: Callable[[list[Config]], list[Config]]
) -> Config:
    """Ours with each of these changes."""
    runs = [
        {**OURS, **change, "side": "ours", "what": what, "seconds": seconds, "seed": seed}
        for what, change in changes.items()
        for seed in range(n_seeds)
    ]
    done = run_all(runs)
    found = {what: mean([run["bits_per_byte"] for run in done if run["what"] == what]) for what in changes}
    for what, bits in found.items():
        tokens = mean([run["n_tokens"] for run in done if run["what"] == what])
        print(f"{what:56} {bits:.3f}  {bits - found['as it is']:+.3f}  {tokens / 1e6:.2f}M tokens")
    return {"seconds": seconds, "seeds": n_seeds, "bits_per_byte": found, "runs": done}


def drawn(base: Config, space: dict[str, list[Any]], n: int) -> list[Config]:
    """The side's own starting point, and others drawn from its space."""
    generator = random.Random(0)
    draws = [{name: generator.choice(values) for name, values in space.items()} for _ in range(n - 1)]
    return [base, *({**base, **draw} for draw in draws)]


def stripped(run: Config) -> Config:
    """What was asked of a run, without what came of it."""
    return {key: value for key, value in run.items() if key not in ("bits_per_byte", "n_tokens", "n_steps", "tokens")}


def in_a_process(config: Config) -> Config:
    """One run, alone in its process, on one thread."""
    from twobills.cli.runtime import SETTINGS

    done = subprocess.run(
        [sys.executable, __file__, "--one", json.dumps(config)],
        env={**os.environ, **SETTINGS, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{config}: {done.stderr.strip().splitlines()[-1]}")
    found: Config = json.loads(done.stdout.splitlines()[-1])
    print(row(found), file=sys.stderr, flush=True)
    return found


def prepare(path: Path) -> None:
    """The corpus as tokens, written once for all runs."""
    import numpy as np

    from twobills.jobs.data.codec import TextCodec, decode_text, train_tokenizer
    from twobills.jobs.data.corpus import read_corpus

    corpus = read_corpus()
    training, heldout = [*corpus.sample(math.inf)], [*corpus.sample(math.inf, heldout=True)]
    codec = TextCodec(train_tokenizer((decode_text(document.content) for document in training), VOCAB_SIZE))
    tokens, kept_back = [*codec.encode(training)], [*codec.encode(heldout)]
    np.savez(
        path,
        training=np.concatenate(tokens),
        heldout=np.concatenate(kept_back),
        lengths=np.array([len(each) for each in kept_back]),
        bytes=sum(len(document.content) for document in heldout),
    )


def one_run(config: Config) -> Config:
    """Trains for the configured CPU seconds and evaluates."""
    import numpy as np
    import torch

    from twobills.jobs.data.batches import Batches

    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    with np.load(config["tokens"]) as file:
        training, n_bytes = file["training"].astype(np.int32), int(file["bytes"])
        heldout = np.split(file["heldout"].astype(np.int32), np.cumsum(file["lengths"])[:-1])
    batches = Batches(training, batch_size=config["batch_size"], seq_len=SEQ_LEN, seed=config["seed"])
    side = Ours(config) if config["side"] == "ours" else Plain(config)
    used, n_steps = 0.0, 0
    while used < config["seconds"]:
        batch, start = batches[n_steps], time.process_time()
        side.step(batch, used / config["seconds"])
        used, n_steps = used + time.process_time() - start, n_steps + 1
    n_tokens = n_steps * config["batch_size"] * SEQ_LEN
    return {
        **config,
        "bits_per_byte": side.nats(heldout) / math.log(2) / n_bytes,
        "n_tokens": n_tokens,
        "n_steps": n_steps,
    }


class Ours:
    """Our network and training step."""

    def __init__(self, config: Config) -> None:
        import torch

        from twobills.jobs.device import pick_device
        from twobills.jobs.nn.decoder import Decoder
        from twobills.jobs.training.step import TrainingStep
        from twobills.specs.dtype import DType
        from twobills.specs.model import ModelSpec
        from twobills.specs.training import TrainingSpec

        n_heads = config["d_model"] // config["d_head"]
        gated = config["mlp"] == "silu"
        network = Decoder(
            ModelSpec(
                name="ours",
                n_layers=config["n_layers"],
                d_model=config["d_model"],
                n_heads=n_heads,
                n_kv_heads=max(1, n_heads // config["kv_share"]),
                d_head=config["d_head"],
                d_ff=int(config["ff"] * config["d_model"]),
                vocab_size=VOCAB_SIZE,
                max_seq_len=SEQ_LEN,
                tied_embeddings=config["tied"],
                qk_norm=config["qk_norm"],
                **({} if gated else {"activation": "relu2", "gated_mlp": False}),
            )
        )
        network.initialise(torch.Generator().manual_seed(config["seed"]))
        names = ("optimizer", "lr", "muon_lr", "weight_decay", "warmup_frac", "cooldown_frac", "batch_size")
        self.spec = TrainingSpec(
            n_steps=1,
            seq_len=SEQ_LEN,
            dtype=DType.BF16,
            heldout_tokens=0,
            compile=False,
            **{n: config[n] for n in names},
        )
        device = pick_device()
        torch.set_num_threads(1)
        self.training = TrainingStep(network, self.spec, device)

    def step(self, batch: Any, progress: float) -> None:
        from twobills.jobs.training.optimizer import lr_scale

        self.training(batch, lr_scale=lr_scale(progress, self.spec))

    def nats(self, heldout: list[Any]) -> float:
        from twobills.jobs.training.evaluate import evaluate

        step = self.training
        return evaluate(step.network, heldout, batch_size=32, seq_len=SEQ_LEN, attend=step.attend).nats


class Plain:
    """The peer."""

    def __init__(self, config: Config) -> None:
        from gpt2_loop import GPT2, Loop

        n_heads = config["d_model"] // config["d_head"]
        shape = {"n_layers": config["n_layers"], "d_model": config["d_model"], "n_heads": n_heads}
        self.loop = Loop(
            GPT2(**shape, vocab_size=VOCAB_SIZE, seq_len=SEQ_LEN), lr=config["lr"], weight_decay=config["weight_decay"]
        )

    def step(self, batch: Any, progress: float) -> None:
        self.loop.step(batch.inputs, batch.targets, progress=progress)

    def nats(self, heldout: list[Any]) -> float:
        return sum(self.loop.nats(inputs, targets) for inputs, targets in windows(heldout))


def windows(heldout: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Every held-out token predicted once, cut as our own evaluation cuts them; ends are padded with -1."""
    import torch

    spans = [tokens[s : s + SEQ_LEN + 1] for tokens in heldout for s in range(0, len(tokens) - 1, SEQ_LEN)]
    for first in range(0, len(spans), 32):
        rows = spans[first : first + 32]
        inputs = torch.zeros(len(rows), SEQ_LEN, dtype=torch.int64)
        targets = torch.full((len(rows), SEQ_LEN), -1)
        for row, span in enumerate(rows):
            inputs[row, : len(span) - 1] = torch.from_numpy(span[:-1])
            targets[row, : len(span) - 1] = torch.from_numpy(span[1:])
        yield inputs, targets


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def row(run: Config) -> str:
    asked = {key: value for key, value in stripped(run).items() if key not in ("side", "seconds", "seed")}
    changed = {
        key: value for key, value in asked.items() if (OURS if run["side"] == "ours" else PLAIN).get(key) != value
    }
    found = f"{run['bits_per_byte']:.3f} bits {run['n_tokens'] / 1e6:5.2f}M tokens"
    return f"{run['side']:6} {run['seconds']:5g} s  {found}  {changed}"


if __name__ == "__main__":
    main()
