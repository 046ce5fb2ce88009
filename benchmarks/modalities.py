"""Bytes that are no text: does a model of single bytes beat the compressors that everybody has?

Why: the same two jobs should learn from anything (issue 5: log or audio bytes, beats gzip). Four kinds of real bytes:
  bytecode  this Python's standard library, compiled here
  machine   the shared libraries of this Python and of NumPy
  log       what this Python says when it imports its standard library (-v -X importtime): lines with times
  audio     16-bit WAV, by default those that the package simpleaudio brings for its tests; --audio names a folder
Each is trained on with `twobills train` (modality = "bytes"), all defaults but sequences of 512 bytes. Beside the bits
per held-out byte of the model: gzip -9 document by document, xz -9e on all held-out documents at once, and xz that has
read the training documents first, the fair comparison: what it writes for both, less what it writes for those alone.
What it does not show: what longer training would give; a compressor made for sound or for machine code.

    python benchmarks/modalities.py [--quick] [--minutes 2] [--only bytecode,log] [--audio FOLDER]
"""

from __future__ import annotations

import argparse
import json
import lzma
import marshal
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SEQ_LEN = 512
MODULES_PER_LOG = 10
_NOT_IMPORTED = {"antigravity", "this", "idlelib", "turtle", "turtledemo", "tkinter"}
"""They open a window or print a poem."""


def main() -> int:
    """Trains on each kind; prints a table, then one JSON document as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 seconds of training each")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--only", default=",".join(KINDS))
    parser.add_argument("--audio", type=Path, help="a folder of recordings")
    asked = parser.parse_args()
    minutes = 1 / 3 if asked.quick else asked.minutes
    rows = []
    print(f"{'kind':10}{'to learn':>10}{'held out':>10}{'ours':>8}{'gzip':>8}{'xz':>8}{'xz read':>9}   bits per byte")
    for kind in asked.only.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            row = _measure(kind, KINDS[kind], Path(scratch), minutes, asked.audio)
        rows.append(row)
        print(_line(row), flush=True)
    document = {
        "benchmark": "modalities",
        "minutes": minutes,
        "python": platform.python_version(),
        "n_cpus": os.cpu_count(),
        "rows": rows,
        "beats_gzip": all(row["beats_gzip"] for row in rows if row["measured"]),
    }
    print(json.dumps(document))
    return 0


def _measure(
    kind: str, make: Callable[[Path, Path | None], str], scratch: Path, minutes: float, audio: Path | None
) -> dict[str, Any]:
    folder = scratch / "data"
    folder.mkdir()
    what = make(folder, audio)
    if not any(folder.iterdir()):
        return {"kind": kind, "measured": False, "reason": what}
    config = scratch / "job.toml"
    job = f'out = "model"\ndata = "data"\nmodality = "bytes"\nminutes = {minutes}\nseq_len = {SEQ_LEN}\n'
    config.write_text(job, encoding="utf-8")
    command = [sys.executable, "-m", "twobills", "train", str(config), "--json", "--ledger", str(scratch / "l.sqlite")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{kind}: {done.stderr.strip()}")
    result = json.loads(done.stdout)
    quality, data, training = result["quality"], result["data"], result["training"]
    return {
        "kind": kind,
        "what": what,
        "measured": True,
        "training_bytes": data["training_bytes"],
        "heldout_bytes": data["heldout_bytes"],
        "n_params": result["model"]["n_params"],
        "epochs": training["epochs"],
        "wall_s": training["wall_s"],
        "bits_per_byte": quality["heldout_bits_per_byte"],
        "gzip_bits_per_byte": quality["gzip_bits_per_byte"],
        "xz_bits_per_byte": quality["xz_bits_per_byte"],
        "xz_after_training_bits_per_byte": _xz_after_training(folder),
        "beats_gzip": quality["heldout_bits_per_byte"] < quality["gzip_bits_per_byte"],
        "command": f"twobills train job.toml --json, where job.toml is {job!r}",
    }


def _xz_after_training(folder: Path) -> float:
    """Bits for each held-out byte of an xz that has read the training documents just before."""
    from twobills.jobs.data.corpus import read_corpus
    from twobills.jobs.data.parts import Read
    from twobills.specs.data import DataSpec, Modality

    corpus = read_corpus(DataSpec.of(folder, Modality.BYTES))
    parts = [part for source in corpus.sources for part in source.parts]
    training = b"".join(document.content for part in parts for document in corpus.training(part, Read()))
    heldout = b"".join(document.content for document in corpus.heldout)
    alone, both = (
        len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)) for content in (training, training + heldout)
    )
    return 8 * (both - alone) / len(heldout)


def _bytecode(folder: Path, _: Path | None) -> str:
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if not {"test", "tests", "site-packages", "idle_test", "lib2to3"} & {*name.parts}:
            code = compile(path.read_bytes(), name.as_posix(), "exec", dont_inherit=True)
            (folder / name.as_posix().replace("/", ".")).with_suffix(".code").write_bytes(marshal.dumps(code))
    return f"the standard library of Python {platform.python_version()}, compiled"


def _machine(folder: Path, _: Path | None) -> str:
    libraries = sorted(Path(sysconfig.get_paths()["platstdlib"]).glob("lib-dynload/*.so"))
    spec = find_spec("numpy")
    if spec and spec.origin:
        libraries += sorted(Path(spec.origin).parent.rglob("*.so"))
    for path in libraries:
        (folder / f"{path.name}").write_bytes(path.read_bytes())
    return f"{len(libraries)} shared libraries of Python {platform.python_version()} and NumPy" if libraries else "none"


def _log(folder: Path, _: Path | None) -> str:
    modules = sorted({name for name in sys.stdlib_module_names if not name.startswith("_")} - _NOT_IMPORTED)
    for first in range(0, len(modules), MODULES_PER_LOG):
        chosen = modules[first : first + MODULES_PER_LOG]
        imports = "".join(f"try:\n import {name}\nexcept ImportError:\n pass\n" for name in chosen)
        command = [sys.executable, "-v", "-X", "importtime", "-c", imports]
        said = subprocess.run(command, capture_output=True, check=False).stderr
        (folder / f"import-{first:03d}.log").write_bytes(said)
    return "Python's own log (-v -X importtime) of importing its standard library, ten modules a process"


def _audio(folder: Path, given: Path | None) -> str:
    spec = find_spec("simpleaudio")
    root = given or (Path(spec.origin).parent / "test_audio" if spec and spec.origin else None)
    files = sorted(root.rglob("*.wav")) if root else []
    for number, path in enumerate(files):
        (folder / f"{number:03d}-{path.name}").write_bytes(path.read_bytes())
    if not files:
        return "no recordings: install simpleaudio, or name a folder with --audio"
    return f"{len(files)} WAV files: {', '.join(path.name for path in files[:8])}"


def _line(row: dict[str, Any]) -> str:
    if not row["measured"]:
        return f"{row['kind']:10}not measured: {row['reason']}"
    keys = ("bits_per_byte", "gzip_bits_per_byte", "xz_bits_per_byte", "xz_after_training_bits_per_byte")
    sizes = f"{row['training_bytes'] / 1e6:8.2f}MB{row['heldout_bytes'] / 1e6:8.2f}MB"
    bits = "".join(f"{row[key]:{width}.3f}" for key, width in zip(keys, (8, 8, 8, 9), strict=True))
    return f"{row['kind']:10}{sizes}{bits}   {'beats' if row['beats_gzip'] else 'DOES NOT BEAT'} gzip; {row['what']}"


KINDS: dict[str, Callable[[Path, Path | None], str]] = {
    "bytecode": _bytecode,
    "machine": _machine,
    "log": _log,
    "audio": _audio,
}

if __name__ == "__main__":
    sys.exit(main())
