"""Does a run that is killed and gone on with end with the same bits, and does its bill miss nothing?

Many small runs of `twobills train`, each killed (SIGKILL) once at a random moment and then gone on with by `--resume`.
The moment is uniform over the life of a run that nobody kills, from the start of its process to its end; one run in
five is instead killed while it writes a checkpoint, one in ten while it freezes its model. Afterwards:

- the digest of the frozen weights must be that of a run that nobody killed and that decided the same before its first
  step (a busy machine may measure itself otherwise and choose another number format: that is then another run);
- every checkpoint that the kill left under its name must be whole;
- the bill's phases must add up to the chip-seconds of both processes, as seen from outside, within 1 %. (A process
  that only finds that all was done before the kill is no part of the run.)

On a CPU, with one and the same number of threads throughout. It does not show other hardware, where sums may come in
another order, nor power cuts (files are flushed before they are renamed, but nobody pulls a plug here).

    python benchmarks/kill_and_resume.py [--kills 50] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from twobills.jobs.training.checkpoint import Checkpoints
from twobills.ledger.store import Ledger
from twobills.meter.environment import environment
from twobills.usage import Job, Phase

KILLS, QUICK_KILLS = 50, 4
MAX_MISSING_FRAC = 0.01
_POLL_S = 0.0005
JOB = """
out = "model"
data = "{data}"
steps = {steps}
vocab_size = 512
batch_size = 4
seq_len = 64
checkpoint_every_s = 0.1
evaluate_every = {evaluate_every}
[model]
n_layers = 2
d_model = 64
n_heads = 2
n_kv_heads = 1
d_ff = 128
"""


@dataclass(frozen=True, kw_only=True)
class Killed:
    """One run, killed once and gone on with."""

    aim: str
    """What it was killed in: any moment, a checkpoint, the freezing."""
    killed_after_s: float
    at_step: int | None
    """Of the newest checkpoint that the kill left; None: there was none."""
    dtype: str
    """That the run chose."""
    digest: str
    same_bits: bool
    unreadable: int
    """Checkpoints under their name that are not whole."""
    process_chip_s: float
    """Of both processes, from outside."""
    billed_chip_s: float
    lost_chip_s: float

    @property
    def missing_frac(self) -> float:
        """Chip-seconds that the bill misses, of all; negative if it has more."""
        return 1 - self.billed_chip_s / self.process_chip_s


class Bench:
    """A folder with data, one run that nobody kills, and what it gave."""

    def __init__(self, root: Path, *, steps: int) -> None:
        self._root = root
        corpus = root / "corpus"
        corpus.mkdir()
        for i in range(60):
            lines = (f"def f_{i * 7 % 13}(x):\n    return [x * {i} + {j * i % 17}]\n\n\n" for j in range(60))
            (corpus / f"module_{i}.py").write_text("".join(lines))
        self._job = JOB.format(data=corpus, steps=steps, evaluate_every=max(1, steps // 3))
        folder = self.folder("reference")
        self.seconds, status = self._run(folder)
        assert status == 0, "the reference run failed"
        document = _result(folder)
        self.n_chips = document["machine"]["n_chips"]
        self.digests = {_dtype(document): document["model"]["digest"]}

    def folder(self, name: str) -> Path:
        """A new run's folder."""
        folder = self._root / name
        folder.mkdir()
        (folder / "job.toml").write_text(self._job)
        return folder

    def kill_and_go_on(self, name: str, aim: str, after_s: float) -> Killed:
        """Kills a run after so many seconds, or when it does what is aimed at, and lets it go on to its end."""
        folder = self.folder(name)
        lived_s, _ = self._run(folder, _moment(folder, aim, after_s))
        left = Checkpoints(folder / "model.run" / "checkpoints")
        damaged: list[str] = []
        newest, all_done = left.newest(damaged.append), (folder / "model.run" / "result.json").exists()
        rest_s, status = self._run(folder)
        assert status == 0, f"{folder}: could not be gone on with"
        document = _result(folder)
        usage = Ledger(folder / "ledger.sqlite").measured_bills(document["run_id"])[Job.TRAINING].usage
        return Killed(
            aim=aim,
            killed_after_s=lived_s,
            at_step=newest.step if newest else None,
            dtype=_dtype(document),
            digest=document["model"]["digest"],
            same_bits=document["model"]["digest"] == self._never_killed(folder, document),
            unreadable=len(damaged),
            process_chip_s=(lived_s + (0.0 if all_done else rest_s)) * self.n_chips,
            billed_chip_s=usage.total.chip_s,
            lost_chip_s=usage.phases[Phase.LOST].chip_s if Phase.LOST in usage.phases else 0.0,
        )

    def _never_killed(self, folder: Path, document: dict[str, Any]) -> str:
        """The digest of a run that decided as this one and was left alone."""
        dtype = _dtype(document)
        if dtype not in self.digests:
            alone = self.folder(f"alone-{dtype}")
            (alone / "model.run").mkdir()
            for name in ("model.run/run.json", "ledger.sqlite"):
                shutil.copy(folder / name, alone / name)
            assert self._run(alone)[1] == 0, f"{alone}: failed"
            self.digests[dtype] = _result(alone)["model"]["digest"]
        return self.digests[dtype]

    def _run(self, folder: Path, killed: Callable[[float], bool] = lambda _: False) -> tuple[float, int]:
        """Seconds that the process lived, and its status."""
        command = [sys.executable, "-m", "twobills", "train", str(folder / "job.toml"), "--resume", "--json"]
        variables = {**os.environ, "TWOBILLS_LEDGER": str(folder / "ledger.sqlite")}
        start_s = time.perf_counter()
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=log)
            while process.poll() is None:
                if killed(time.perf_counter() - start_s):
                    process.kill()
                    process.wait()
                    break
                time.sleep(_POLL_S)
        return time.perf_counter() - start_s, process.returncode


def _moment(folder: Path, aim: str, after_s: float) -> Callable[[float], bool]:
    """When to kill: told the seconds since the start. What is aimed at is only looked for after ``after_s``."""
    checkpoints = folder / "model.run" / "checkpoints"
    signs: dict[str, Callable[[], bool]] = {
        "checkpoint": lambda: any(checkpoints.glob(".step-*.part")),
        "freezing": lambda: any(folder.glob(".model-*")),
    }
    sign = signs.get(aim, lambda: True)
    return lambda now_s: now_s >= after_s and sign()


def _result(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "model.run" / "result.json").read_text())
    return document


def _dtype(document: dict[str, Any]) -> str:
    return str(document["plan"]["training"]["dtype"])


def _aims(n: int) -> list[str]:
    return ["checkpoint" if i % 5 == 1 else "freezing" if i % 10 == 3 else "any" for i in range(n)]


def _table(runs: list[Killed]) -> str:
    rows = ["aim         killed after  checkpoint  format  same bits  unreadable  lost chip-s  bill misses"]
    for run in runs:
        step = "none" if run.at_step is None else f"step {run.at_step}"
        rows.append(
            f"{run.aim:<11} {run.killed_after_s:>10.2f} s  {step:>10}  {run.dtype:>6}  "
            f"{'yes' if run.same_bits else 'NO':>9}  {run.unreadable:>10}  "
            f"{run.lost_chip_s:>11.2f}  {100 * run.missing_frac:>9.2f} %"
        )
    return "\n".join(rows)


def measure(kills: int, steps: int, seed: int) -> dict[str, Any]:
    """Kills so many runs; the document."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), steps=steps)
        runs = [
            bench.kill_and_go_on(f"run-{i}", aim, rng.uniform(0.0, bench.seconds if aim == "any" else 0.5))
            for i, aim in enumerate(_aims(kills))
        ]
    print(_table(runs))
    process, billed = (sum(getattr(run, f"{what}_chip_s") for run in runs) for what in ("process", "billed"))
    return {
        "benchmark": "kill_and_resume",
        "kills": kills,
        "steps": steps,
        "seed": seed,
        "identical_finishes": sum(run.same_bits for run in runs),
        "unreadable_checkpoints": sum(run.unreadable for run in runs),
        "process_chip_s": process,
        "billed_chip_s": billed,
        "missing_frac": 1 - billed / process,
        "median_missing_frac": median(run.missing_frac for run in runs),
        "worst_missing_frac": max((run.missing_frac for run in runs), key=abs),
        "complete": abs(1 - billed / process) <= MAX_MISSING_FRAC,
        "uninterrupted_s": bench.seconds,
        "digests": bench.digests,
        "environment": environment(),
        "runs": [asdict(run) for run in runs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_KILLS} kills of shorter runs")
    asked = parser.parse_args()
    document = measure(QUICK_KILLS, 40, asked.seed) if asked.quick else measure(asked.kills, asked.steps, asked.seed)
    good = document["identical_finishes"] == document["kills"] and not document["unreadable_checkpoints"]
    print(
        f"{document['identical_finishes']} of {document['kills']} ended with the same bits; "
        f"{document['unreadable_checkpoints']} checkpoints could not be read; the bill misses "
        f"{100 * document['missing_frac']:.2f} % of {document['process_chip_s']:.0f} chip-seconds"
    )
    print(json.dumps(document))
    sys.exit(0 if good and document["complete"] else 4)


if __name__ == "__main__":
    main()
