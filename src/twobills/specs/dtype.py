"""Number formats: what they are called and how many bytes one number takes."""

from __future__ import annotations

from enum import StrEnum

from twobills.errors import SpecError


class DType(StrEnum):
    """A number format that weights, activations or a KV cache can be in."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    FP4 = "fp4"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def bytes(self) -> float:
        """Bytes that one number takes, without scales."""
        return _BYTES[self]

    @classmethod
    def parse(cls, name: str) -> DType:
        """The format of that name, PyTorch's and Hugging Face's spellings included. Raises SpecError."""
        try:
            return cls(_ALIASES.get(name, name))
        except ValueError:
            raise SpecError(f"dtype={name!r}: unknown; one of {', '.join(cls)}") from None


_BYTES = {
    DType.FP32: 4.0,
    DType.BF16: 2.0,
    DType.FP16: 2.0,
    DType.FP8: 1.0,
    DType.FP4: 0.5,
    DType.INT8: 1.0,
    DType.INT4: 0.5,
}
_ALIASES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float8_e4m3fn": "fp8"}
