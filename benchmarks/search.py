"""The best way to serve, asked of twobills and of AIConfigurator: CPU seconds to the answer, ways looked at in each.

Why: `twobills search inference` is to look at 100,000 complete ways a CPU-second, memory and latency targets included,
and to answer from a cold start in under 0.7 s; the peer takes about 9 CPU-seconds (issue 4). The question is the same
for both: Llama-3.1-8B, 8 x H200, prompts of 4000 and answers of 500 tokens, TTFT 1000 ms, TPOT 20 ms, one pool and two.
Ours is asked once with all formats, once with 16 bits only, as the peer takes it. Cold is a new process, CPU seconds
with all its threads; warm is asked again in the same process. Rounds take turns, so that drift hits all alike.
What it does not show: which of the two is right (docs/accuracy.md), memory use. A way is for us a layout, formats, a
batch and matched pools; the peer's count is of the rows in its results, though it looks some up many times.

    python benchmarks/search.py [--rounds 5] [--peer-environment DIR | --no-peer]

The peer is installed into an environment of its own (850 MB, minutes); where that fails, ours are shown alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from peer_environment import FOLDER, PEER, peer_python
from twobills.cli.options import default_ledger
from twobills.flows.search_inference import ServingSearchRequest, search
from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.meter.environment import environment

BAR_PER_CPU_S = 100_000
BAR_COLD_S = 0.7
PEER_QUESTION = (
    *("cli", "default", "--model-path", "meta-llama/Meta-Llama-3.1-8B", "--total-gpus", "8", "--system", "h200_sxm"),
    *("--isl", "4000", "--osl", "500", "--ttft", "1000", "--tpot", "20"),
)
PEER_TWICE = """
import runpy, sys, time
sys.argv = sys.argv[1:]
script = sys.argv[0]
for _ in range(2):
    start = time.process_time()
    try:
        runpy.run_path(script, run_name='__main__')
    except SystemExit as end:
        assert not end.code
    print('CPU seconds:', time.process_time() - start)
"""
QUESTION = ServingSearchRequest(
    model="llama-3.1-8b", chips="h200:8", prompt_tokens=4000, answer_tokens=500, ttft="1000ms", tpot="20ms"
)
ASKED: dict[str, dict[str, str]] = {
    "twobills, 16 bits": {"weights": "bf16", "kv": "bf16"},
    "twobills, all formats": {},
    "twobills, DeepSeek-V3 on 64": {"model": "deepseek-v3", "chips": "h200:64"},
    "twobills, 70B on four kinds": {"model": "llama-3.1-70b", "chips": "h200:16,b200:16,h100-sxm:32,a100:32"},
}
"""What differs from the question; the last two are wider ones, for the rate alone."""


class Answer(NamedTuple):
    """One answer."""

    n_ways: int
    cold_wall_s: float
    cold_cpu_s: float
    warm_cpu_s: float


def main() -> None:
    """Runs the rounds, prints a table and one JSON line, and writes one ledger record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-environment", type=Path, default=FOLDER)
    parser.add_argument("--no-peer", action="store_true")
    given = parser.parse_args()
    peer, without = (None, "not asked for") if given.no_peer else peer_python(given.peer_environment)
    answers: dict[str, list[Answer]] = {name: [] for name in ASKED}
    if peer is not None:
        answers[PEER] = []
    for _ in range(given.rounds):
        for name, found in answers.items():
            found.append(_ask_peer(peer) if peer is not None and name == PEER else _ask(ASKED[name]))
    result = {name: _summary(found) for name, found in answers.items()}
    print(f"{'':28} {'ways':>9} {'cold wall':>10} {'cold CPU':>10} {'warm CPU':>10} {'ways per warm CPU-second':>26}")
    for name, row in result.items():
        times = (f"{row[key]:8.3f} s" for key in ("cold_wall_s", "cold_cpu_s", "warm_cpu_s"))
        print(f"{name:28} {row['n_ways']:9,} {' '.join(times)} {row['ways_per_cpu_s']:26,.0f}")
    if peer is None:
        print(f"{PEER}: {without}")
    ledger = Ledger(Path(os.environ.get("TWOBILLS_LEDGER", default_ledger())))
    run_id = ledger.start("benchmark search", {"rounds": given.rounds, "environment": environment()})
    ledger.result(run_id, {"answers": result})
    ledger.end(run_id, Outcome.DONE)
    bars = {"bar_per_cpu_s": BAR_PER_CPU_S, "bar_cold_s": BAR_COLD_S, "peer_missing": without}
    print(json.dumps({"benchmark": "search", "run_id": run_id, **bars, "answers": result}))


def _summary(found: list[Answer]) -> dict[str, Any]:
    middle = {name: statistics.median(getattr(each, name) for each in found) for name in Answer._fields[1:]}
    best = {f"best_{name}": min(getattr(each, name) for each in found) for name in Answer._fields[1:]}
    n_ways = found[0].n_ways
    return {"n_ways": n_ways, **middle, **best, "ways_per_cpu_s": n_ways / middle["warm_cpu_s"]}


def _ask(changed: dict[str, str]) -> Answer:
    """Ours, in a new process and then in this one, whose catalogues have been read."""
    asked = {"model": QUESTION.model, "chips": QUESTION.chips, "weights": "any", "kv": "any", **changed}
    options = [f"--{name}={asked[name]}" for name in ("chips", "weights", "kv")]
    command = [sys.executable, "-m", "twobills", "search", "inference", asked["model"], *options, "--json"]
    command += ["--prompt-tokens=4000", "--answer-tokens=500", "--ttft=1000ms", "--tpot=20ms"]
    output, wall_s, cpu_s = _timed(command)
    request = replace(QUESTION, model=asked["model"], chips=asked["chips"], weights=asked["weights"], kv=asked["kv"])
    search(request)
    start_s = time.process_time()
    search(request)
    return Answer(json.loads(output)["n_candidates"], wall_s, cpu_s, time.process_time() - start_s)


def _ask_peer(python: Path) -> Answer:
    """The peer, in a new process and then twice in another: its second answer is warm."""
    script = str(python.with_name("aiconfigurator"))
    output, wall_s, cpu_s = _timed([str(python), script, *PEER_QUESTION])
    n_ways = sum(int(n) for n in re.findall(r"completed with (\d+) results", output))
    twice, _, _ = _timed([str(python), "-c", PEER_TWICE, script, *PEER_QUESTION])
    return Answer(n_ways, wall_s, cpu_s, float(re.findall(r"CPU seconds: ([\d.]+)", twice)[-1]))


def _timed(command: list[str]) -> tuple[str, float, float]:
    """Output, wall and CPU seconds of a process."""
    before, start_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    wall_s, after = time.perf_counter() - start_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 4):
        raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-2000:]}")
    cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return done.stdout, wall_s, cpu_s


if __name__ == "__main__":
    main()
