"""Who reads the config of which architecture, by every name it goes by, and which cannot be read for want of what."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twobills.specs import hf_dense, hf_experts
from twobills.specs.hf_fields import Config, Shape

READERS: Mapping[str, Callable[[Config], Shape]] = {
    "LlamaForCausalLM": hf_dense.llama,
    "ArceeForCausalLM": hf_dense.arcee,
    "MistralForCausalLM": hf_dense.mistral,
    "MixtralForCausalLM": hf_experts.mixtral,
    "Qwen2ForCausalLM": hf_dense.qwen2,
    "Qwen2MoeForCausalLM": hf_experts.qwen2_moe,
    "Qwen3ForCausalLM": hf_dense.qwen3,
    "Qwen3MoeForCausalLM": hf_experts.qwen3_moe,
    "Llama4ForCausalLM": hf_experts.llama4,
    "GPT2LMHeadModel": hf_dense.gpt2,
    "GPTBigCodeForCausalLM": hf_dense.gpt_bigcode,
    "OPTForCausalLM": hf_dense.opt,
    "GPTJForCausalLM": hf_dense.gptj,
    "GPTNeoXForCausalLM": hf_dense.gpt_neox,
    "BloomForCausalLM": hf_dense.bloom,
    "FalconForCausalLM": hf_dense.falcon,
    "MptForCausalLM": hf_dense.mpt,
    "Starcoder2ForCausalLM": hf_dense.starcoder2,
    "PhiForCausalLM": hf_dense.phi,
    "NemotronForCausalLM": hf_dense.nemotron,
    "GraniteForCausalLM": hf_dense.granite,
    "GemmaForCausalLM": hf_dense.gemma,
    "Gemma2ForCausalLM": hf_dense.gemma2,
    "Gemma3ForCausalLM": hf_dense.gemma3,
    "Phi3ForCausalLM": hf_dense.phi3,
    "PhimoeForCausalLM": hf_experts.phimoe,
    "DeepseekV2ForCausalLM": hf_experts.deepseek,
    "DeepseekV3ForCausalLM": hf_experts.deepseek,
    "GptOssForCausalLM": hf_experts.gpt_oss,
    "DbrxForCausalLM": hf_experts.dbrx,
    "OlmoForCausalLM": hf_dense.olmo,
    "Olmo2ForCausalLM": hf_dense.olmo2,
    "Olmo3ForCausalLM": hf_dense.olmo3,
    "StableLmForCausalLM": hf_dense.stablelm,
    "SmolLM3ForCausalLM": hf_dense.smollm3,
}
"""Who reads the config of which architecture."""

ALIASES: Mapping[str, str] = {
    "BloomModel": "BloomForCausalLM",
    "GPT2Model": "GPT2LMHeadModel",
    "StableLMEpochForCausalLM": "StableLmForCausalLM",
    "KimiK2ForCausalLM": "DeepseekV3ForCausalLM",
    "KimiK25ForConditionalGeneration": "DeepseekV3ForCausalLM",
    "Qwen3VLForConditionalGeneration": "Qwen3ForCausalLM",
    "Qwen3VLMoeForConditionalGeneration": "Qwen3MoeForCausalLM",
}
"""Other names of the same decoder."""

_MAMBA = "state-space (Mamba) layers"
_LINEAR = "linear attention layers"
_ENCODER = "an encoder"
MISSING: Mapping[str, str] = {
    "MambaForCausalLM": _MAMBA,
    "Mamba2ForCausalLM": _MAMBA,
    "FalconMambaForCausalLM": _MAMBA,
    "JambaForCausalLM": _MAMBA,
    "BambaForCausalLM": _MAMBA,
    "ZambaForCausalLM": _MAMBA,
    "Zamba2ForCausalLM": _MAMBA,
    "FalconH1ForCausalLM": _MAMBA,
    "NemotronHForCausalLM": _MAMBA,
    "GraniteMoeHybridForCausalLM": _MAMBA,
    "Qwen3NextForCausalLM": f"{_LINEAR} (gated delta rule)",
    "Qwen3_5ForCausalLM": f"{_LINEAR} (gated delta rule)",
    "Qwen3_5MoeForCausalLM": f"{_LINEAR} (gated delta rule)",
    "KimiLinearForCausalLM": f"{_LINEAR} (gated delta rule)",
    "OlmoHybridForCausalLM": f"{_LINEAR} (gated delta rule)",
    "MiniMaxForCausalLM": f"{_LINEAR} (lightning attention)",
    "MiniMaxText01ForCausalLM": f"{_LINEAR} (lightning attention)",
    "MiniMaxM1ForCausalLM": f"{_LINEAR} (lightning attention)",
    "RwkvForCausalLM": f"{_LINEAR} (RWKV)",
    "RecurrentGemmaForCausalLM": "recurrent layers (RG-LRU)",
    "Lfm2ForCausalLM": "short-convolution layers",
    "Lfm2MoeForCausalLM": "short-convolution layers",
    "DeepseekV32ForCausalLM": "sparse attention's indexer",
    "T5ForConditionalGeneration": _ENCODER,
    "BartForConditionalGeneration": _ENCODER,
    "BertForMaskedLM": _ENCODER,
}
"""Architectures that are known and cannot be counted, with the part that is missing."""

_ENDINGS = ("ForCausalLM", "ForConditionalGeneration", "ForMaskedLM", "LMHeadModel", "_text")


def plain(name: str) -> str:
    """What an architecture and its ``model_type`` have in common: ``qwen2moe``."""
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name.replace("_", "").lower()


KNOWN: Mapping[str, str] = {
    **{plain(name): name for name in READERS},
    **{plain(other): name for other, name in ALIASES.items()},
}
"""The name in ``READERS`` of each plain name."""

HYBRIDS: Mapping[str, str] = {plain(name): part for name, part in MISSING.items()}
"""What is missing, by plain name."""
