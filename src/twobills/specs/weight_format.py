"""Formats that weights or a KV cache are stored in: bits per number, scales included, and what products run in.

A format names how a checkpoint stores a number; ``DType`` names what the multipliers take. Weight-only formats are
unpacked to 16 bits before the product; the others multiply as they are, on a chip that can, and 16 bits elsewhere.
What a checkpoint leaves in 16 bits (norms, routers, often embeddings and head) is left out, except where a format's
figure is an average of whole files (llama.cpp's mixes, exl2).

Sources: NVFP4 and MXFP4 blocks, OCP Microscaling Formats 1.0 and NVIDIA's NVFP4 (8-bit scale per 32 and per 16);
llama.cpp's blocks and averages, tools/quantize/README.md (Q4_K_M: 4.89 of Llama 3.1 8B, 4.80 to 4.84 of Llama 2);
int4_g32, gpt-fast (a bf16 scale and a bf16 zero per group); int4_g128, GPTQ and AWQ as AutoGPTQ packs them (fp16 scale
and 4-bit zero); int8 of one scale per row or tensor counts none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from twobills.errors import SpecError
from twobills.specs.dtype import DType
from twobills.units import BITS_PER_BYTE


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """How numbers are stored, and what products with them run in."""

    name: str
    bits_per_weight: float
    """Scales and zero points included."""
    compute: DType
    """What the products run in on a chip that has it; one that lacks it runs 16 bits."""

    def __post_init__(self) -> None:
        if not 1 <= self.bits_per_weight <= 32:
            raise SpecError(f"bits_per_weight={self.bits_per_weight:g}: must be from 1 to 32")

    @property
    def bytes_per_weight(self) -> float:
        """Bytes that one number takes, its share of the scales included."""
        return self.bits_per_weight / BITS_PER_BYTE

    @classmethod
    def parse(cls, text: str) -> WeightFormat:
        """The format that people and tables mean. Raises SpecError, listing those there are.

        A bare ``int8`` is weights only (gpt-fast, Pope et al.), a bare ``4-bit`` the usual group of 128 (assumed).
        """
        plain = text.strip().lower()
        if exl2 := _EXL2.fullmatch(plain):
            return cls(name=f"exl2_{exl2[1]}", bits_per_weight=float(exl2[1]), compute=DType.FP16)
        base, group = _NOTE.sub("", plain), _GROUP.search(plain)
        name = re.sub(r"[\s-]+", "_", base)
        name = _ALIASES.get(name, name)
        if group and name.startswith("int4"):
            name = f"int4_g{group[1]}"
        if name not in FORMATS:
            known = ", ".join(FORMATS)
            raise SpecError(f"weight format {text!r}: unknown; one of {known}, exl2 with its bits per weight")
        return FORMATS[name]


_NOTE = re.compile(r"\s*\([^)]*\)")
_GROUP = re.compile(r"\bg(\d+)\b")
_EXL2 = re.compile(r"exl2[\s_-]*(\d+(?:\.\d+)?)(?:\s*bpw)?")


def _grouped(bits: float, group_bits: float, group: int) -> float:
    """Bits per number of a block of ``group`` numbers with ``group_bits`` of scales and zeros."""
    return bits + group_bits / group


_TABLE: Mapping[str, tuple[float, DType]] = {
    "fp32": (32.0, DType.FP32),
    "bf16": (16.0, DType.BF16),
    "fp16": (16.0, DType.FP16),
    "fp8": (8.0, DType.FP8),
    "fp8_block": (_grouped(8, 32, 128 * 128), DType.FP8),  # DeepSeek-V3: one fp32 scale per 128 x 128
    "w8a8": (8.0, DType.INT8),
    "w8a16": (8.0, DType.BF16),
    "int4_g32": (_grouped(4, 16 + 16, 32), DType.BF16),
    "int4_g64": (_grouped(4, 16 + 4, 64), DType.FP16),
    "int4_g128": (_grouped(4, 16 + 4, 128), DType.FP16),
    "nvfp4": (_grouped(4, 8, 16), DType.FP4),
    "mxfp4": (_grouped(4, 8, 32), DType.FP4),
    "q4_0": (_grouped(4, 16, 32), DType.INT8),
    "q5_0": (_grouped(5, 16, 32), DType.INT8),
    "q8_0": (_grouped(8, 16, 32), DType.INT8),
    "q4_k_s": (4.6, DType.INT8),
    "q4_k_m": (4.85, DType.INT8),
    "q5_k_m": (5.7, DType.INT8),
    "q6_k": (6.56, DType.INT8),
}
"""Bits per number and compute. llama.cpp's CUDA kernels quantise activations to 8-bit integers beside the weights."""

FORMATS: Mapping[str, WeightFormat] = {
    name: WeightFormat(name=name, bits_per_weight=bits, compute=compute) for name, (bits, compute) in _TABLE.items()
}
"""All formats by name; exl2 has any number of bits."""

_ALIASES: Mapping[str, str] = {
    "float32": "fp32",
    "bfloat16": "bf16",
    "float16": "fp16",
    "f16": "fp16",
    "16_bit": "bf16",
    "fp8_e4m3": "fp8",
    "float8_e4m3fn": "fp8",
    "8_bit": "w8a16",
    "int8": "w8a16",
    "uint8": "w8a16",
    "4_bit": "int4_g128",
    "int4": "int4_g128",
    "uint4": "int4_g128",
    "w4a16": "int4_g128",
    "awq": "int4_g128",
    "gptq": "int4_g128",
    "gptq_4_bit": "int4_g128",
    "awq_4_bit": "int4_g128",
    "fp4": "nvfp4",
}
