"""What serves a model, by class of engine, as far as it changes what a step costs beside the arithmetic."""

from __future__ import annotations

from enum import StrEnum


class Engine(StrEnum):
    """Classes of serving engine."""

    TENSORRT = "tensorrt"
    """Graphs compiled for the chip by its maker, host work overlapped (TensorRT-LLM, SambaFlow, Gaudi's)."""
    SERVER = "server"
    """Python schedulers over compiled kernels and CUDA graphs, host work off the path (vLLM from 0.8, SGLang)."""
    EARLY = "early"
    """The same before their schedulers were rewritten (vLLM to 0.7, of 2023 and 2024)."""
    NATIVE = "native"
    """C++ on one machine, quantised kernels (llama.cpp)."""
    SINGLE = "single"
    """Compiled for one stream (gpt-fast, ExLlamaV2, MLC)."""
    GENERIC = "generic"
    """Not known: as an early server."""


LIKE = {
    Engine.SINGLE: Engine.NATIVE,
    Engine.NATIVE: Engine.TENSORRT,
    Engine.GENERIC: Engine.EARLY,
    Engine.EARLY: Engine.SERVER,
    Engine.TENSORRT: Engine.SERVER,
}
"""Whose number a class takes where it has none of its own."""
