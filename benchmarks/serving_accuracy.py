"""Measured TTFT and TPOT, forecast by twobills and by AIConfigurator: errors of both on the rows that both forecast.

Why: issue 4 asks for the two side by side. The peer has tables of measured kernels, ours data sheets and 30 numbers.
The peer is asked for its `cli estimate` of each row's configuration, with the weight format, cache format and mean
lengths that our own reader takes from the row, the concurrency as its batch, and its other settings as they come. It
answers for the one release of each engine that its tables hold, mostly newer than what the row ran. Of the ways to
ask that were tried (formats of its own choice, scales in blocks, 8192 tokens a step) this one suits its TPOT best.
What it does not show: ours on rows it was never fitted to (the page does: `twobills validate training ... --serving
FILE.csv --peer peer.csv --report docs/accuracy.md`), and the peer on rows its authors never saw.

    python benchmarks/serving_accuracy.py FILE.csv [--peer-environment DIR] [--out peer.csv] [--processes 2]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peer_environment import FOLDER, NAME, PEER, VERSION, peer_python
from twobills.cli.options import default_ledger
from twobills.flows.validation.document import validate_serving_file
from twobills.flows.validation.peer import COLUMNS, peer_lines, read_peer
from twobills.flows.validation.rows import read_table
from twobills.flows.validation.serving_rows import Metric, ServingRow, serving_rows
from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.meter.environment import environment
from twobills.specs.serving_calibration import published_serving_calibration

MODELS = {
    "llama-3.1-8b": "meta-llama/Meta-Llama-3.1-8B",
    "llama-3.1-70b": "meta-llama/Meta-Llama-3.1-70B",
    "llama-3.3-70b": "meta-llama/Meta-Llama-3.1-70B",
    "qwen3-32b": "Qwen/Qwen3-32B",
    "minimax-m2.5": "MiniMaxAI/MiniMax-M2.5",
}
"""The peer's names of models; 3.3 has the shape of 3.1."""
SYSTEMS = {"h100-sxm": "h100_sxm", "h200-sxm": "h200_sxm", "b200": "b200_sxm", "b300": "b300_sxm"}
ENGINES = {"vllm": "vllm", "sglang": "sglang", "tensorrt": "trtllm"}
FORMATS = {"bf16": "bfloat16", "fp16": "bfloat16", "fp8": "fp8", "fp4": "nvfp4", "nvfp4": "nvfp4"}
"""8 bits are plain ones, as the peer's own list of these rows has them, also where a model publishes them in blocks."""
Question = dict[str, Any]


def main() -> None:
    """Asks the peer, writes its forecasts, prints both beside each other, and writes one ledger record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--peer-environment", type=Path, default=FOLDER)
    parser.add_argument("--out", type=Path, default=Path("peer.csv"))
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    python, without = peer_python(given.peer_environment)
    if python is None:
        raise SystemExit(f"{PEER}: {without}")
    asked = [row for row in serving_rows(read_table(given.file), str(given.file)) if isinstance(row, ServingRow)]
    asked = [row for row in asked if row.metric in (Metric.TTFT, Metric.TPOT)]
    questions = [_question(row) for row in asked]
    distinct = {_key(each): each for each in questions if isinstance(each, dict)}
    answers = dict(zip(distinct, _ask(python, list(distinct.values()), given.processes), strict=True))
    found = [answers[_key(each)] if isinstance(each, dict) else {"reason": each} for each in questions]
    _write(given.out, asked, found)
    validated = validate_serving_file(given.file, published_serving_calibration())
    print("\n".join(peer_lines(validated.scored, (), read_peer(given.out))))
    n_answered = sum("reason" not in each for each in found)
    ledger = Ledger(Path(os.environ.get("TWOBILLS_LEDGER", default_ledger())))
    run_id = ledger.start("benchmark serving accuracy", {"file": given.file.name, "environment": environment()})
    summary = {"peer": PEER, "n_asked": len(asked), "n_answered": n_answered}
    ledger.result(run_id, summary)
    ledger.end(run_id, Outcome.DONE)
    print(json.dumps({"benchmark": "serving accuracy", "run_id": run_id, **summary}))


def _question(row: ServingRow) -> Question | str:
    """What to ask of a row, or why it cannot be asked."""
    model, system = MODELS.get(row.model.name), SYSTEMS.get(row.cluster.chip.name)
    engine = next((name for word, name in ENGINES.items() if word in row.software.lower()), None)
    weights = FORMATS.get(row.weights.name)
    if model is None or system is None or engine is None or weights is None or row.concurrency is None:
        what = f"{row.model.name}, {row.cluster.chip.name}, {row.software}, {row.weights.name}"
        return f"cannot be expressed: {what}, concurrency {row.concurrency}"
    keywords: dict[str, Any] = {
        "backend_name": engine,
        "isl": round(row.prompt_tokens),
        "osl": round(row.answer_tokens),
        "batch_size": round(row.concurrency / row.dp),
        "tp_size": row.tp,
        "pp_size": row.pp,
        "attention_dp_size": row.dp,
        "gemm_quant_mode": weights,
        "kvcache_quant_mode": "fp8" if row.kv_bytes == 1 else "bfloat16",
    }
    if row.model.moe is not None:
        degrees = {"moe_tp_size": row.tp * row.dp // row.ep, "moe_ep_size": row.ep}
        keywords = {**keywords, **degrees, "moe_quant_mode": weights}
    return {"model": model, "system": system, "keywords": keywords}


def _key(question: Question) -> str:
    return json.dumps(question, sort_keys=True)


def _ask(python: Path, questions: Sequence[Question], n_processes: int) -> list[dict[str, Any]]:
    """The answers, in order; questions of one system and engine stay together, whose tables take seconds to read."""
    script = Path(__file__).with_name("ask_aiconfigurator.py")
    order = sorted(range(len(questions)), key=lambda i: _key({**questions[i], "model": questions[i]["system"]}))
    order.sort(key=lambda i: (questions[i]["system"], questions[i]["keywords"]["backend_name"]))
    size = -(-len(order) // n_processes)
    parts = [order[i : i + size] for i in range(0, len(order), size)]
    answers: list[dict[str, Any]] = [{}] * len(questions)
    with tempfile.TemporaryDirectory() as folder:
        running = []
        for n, part in enumerate(parts):
            asked, answered = Path(folder, f"{n}.json"), Path(folder, f"{n}.jsonl")
            asked.write_text(json.dumps([questions[i] for i in part]), encoding="utf-8")
            environ = {**os.environ, "HF_HUB_OFFLINE": "1", "RAYON_NUM_THREADS": "1"}
            quiet = subprocess.DEVNULL
            running.append(subprocess.Popen([python, script, asked, answered], env=environ, stdout=quiet, stderr=quiet))
        for n, (part, process) in enumerate(zip(parts, running, strict=True)):
            if code := process.wait():
                raise SystemExit(f"{PEER}: {script.name} ended with {code}")
            lines = Path(folder, f"{n}.jsonl").read_text(encoding="utf-8").splitlines()
            for i, line in zip(part, lines, strict=True):
                answers[i] = json.loads(line)
    return answers


def _write(path: Path, rows: Sequence[ServingRow], answers: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row, answer in zip(rows, answers, strict=True):
            table, _, number = row.place.rpartition(":")
            forecast = f"{answer[row.metric.value]:.6g}" if row.metric.value in answer else ""
            note = answer.get("reason") or answer["doubt"]
            writer.writerow([NAME, VERSION, table, number, row.metric, forecast, answer.get("database", ""), note])


if __name__ == "__main__":
    main()
