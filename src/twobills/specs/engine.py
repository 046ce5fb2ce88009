"""What serves a model, by class of engine, as far as it changes what a step costs beside the arithmetic."""

from __future__ import annotations

from enum import StrEnum


class Engine(StrEnum):
    """Classes of serving engine."""

    TENSORRT = "tensorrt"
    """Compiled graphs, host work overlapped (TensorRT-LLM)."""
    SERVER = "server"
    """Python schedulers over compiled kernels and CUDA graphs (vLLM, SGLang)."""
    NATIVE = "native"
    """C++ on one machine, quantised kernels (llama.cpp)."""
    SINGLE = "single"
    """Compiled for one stream (gpt-fast, ExLlamaV2, MLC)."""
    GENERIC = "generic"
    """Anything else: a framework's own generation loop."""
