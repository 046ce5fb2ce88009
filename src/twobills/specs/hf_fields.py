"""Reading facts out of a Hugging Face config: every spelling of a field, what all families share, patterns of layers.

Each function raises SpecError that names the field, in the config's own words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twobills.errors import SpecError
from twobills.specs.families import FAMILIES
from twobills.specs.model import Biases, Norm, Window

Config = Mapping[str, Any]
Shape = dict[str, Any]
"""Fields of a ``ModelSpec`` but its name."""
_SHAPE = {
    "n_layers": ("num_hidden_layers", "n_layer", "n_layers"),
    "d_model": ("hidden_size", "n_embd", "d_model", "n_embed"),
    "n_heads": ("num_attention_heads", "n_head", "n_heads"),
    "d_ff": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "vocab_size": ("vocab_size",),
    "max_seq_len": ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length"),
}
_EPSILONS = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_epsilon", "norm_eps")
_ACTIVATIONS = ("hidden_act", "activation_function", "hidden_activation", "activation")
_LIMITED, _FULL = ("sliding_attention", "chunked_attention"), "full_attention"


def family_shape(family: str, config: Config, **defaults: int) -> Shape:
    """What all families have in common, on top of the family's own facts."""
    numbers = _numbers(config, **defaults)
    family_facts = FAMILIES[family]
    n_heads = numbers["n_heads"]
    n_kv_heads = optional(config, "num_key_value_heads")
    return {
        "norm_eps": 1e-6 if family_facts.get("norm", Norm.RMS) is Norm.RMS else 1e-5,
        **family_facts,
        **numbers,
        **_cosmetics(config),
        "family": family,
        "n_kv_heads": n_heads if n_kv_heads is None else n_kv_heads,
        "d_head": _head_size(config, numbers["d_model"], n_heads),
        "tied_embeddings": flag(config, "tie_word_embeddings", family_facts.get("tied_embeddings", False)),
    }


def linear_biases(config: Config) -> Biases:
    """``attention_bias`` and ``mlp_bias``, as most families write them."""
    on_attention = flag(config, "attention_bias")
    return Biases(qkv=on_attention, output=on_attention, mlp=flag(config, "mlp_bias"))


def no_window(config: Config) -> Shape:
    """Nothing, or SpecError where the config asks for a window in a family whose windows are not known."""
    if flag(config, "use_sliding_window"):
        raise SpecError("use_sliding_window=True: not known with this architecture; set it to false")
    return {}


def number(config: Config, *names: str) -> int:
    """The first of these fields that the config has."""
    found = optional(config, *names)
    if found is None:
        raise SpecError(f"{names[0]}: missing from the config")
    return found


def optional(config: Config, *names: str) -> int | None:
    """The first of these fields that the config has and that is not null."""
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise SpecError(f"{name}={value!r}: must be a whole number")
        return int(value)
    return None


def flag(config: Config, name: str, default: bool = False) -> bool:
    """A field that is true or false."""
    value = config.get(name)
    return default if value is None else bool(value)


def window(config: Config, n_tokens: int | None, *, n_layers: int, full_every: int | None = None) -> Window | None:
    """Attention's window; which layers have it is said by ``layer_types``, else by the family's ``full_every``."""
    if n_tokens is None:
        return None
    kinds = config.get("layer_types")
    if not kinds:
        return Window(n_tokens=n_tokens, full_every=full_every)
    if unknown := set(kinds) - {*_LIMITED, _FULL}:
        raise SpecError(f"layer_types holds {min(unknown)}: only {', '.join((*_LIMITED, _FULL))} can be counted")
    if len(kinds) != n_layers:
        raise SpecError(f"layer_types names {len(kinds)} layers: must be num_hidden_layers={n_layers}")
    limited = [i for i, kind in enumerate(kinds) if kind in _LIMITED]
    return windowed(n_tokens, limited, n_layers, "layer_types", chunked="chunked_attention" in kinds)


def windowed(
    n_tokens: int, layers: Sequence[int], n_layers: int, field: str, *, chunked: bool = False
) -> Window | None:
    """The window of the layers listed: all, all but every nth, or all from one on."""
    if not layers:
        return None
    if list(layers) == list(range(layers[0], n_layers)):
        return Window(n_tokens=n_tokens, first_layer=layers[0], chunked=chunked)
    for full_every in range(2, n_layers + 1):
        if list(layers) == [i for i in range(n_layers) if (i + 1) % full_every]:
            return Window(n_tokens=n_tokens, full_every=full_every, chunked=chunked)
    raise SpecError(f"{field}: windowed layers must be all, all but every nth, or all from one on")


def expert_layers(layers: Sequence[int], n_layers: int, field: str) -> tuple[int, int]:
    """(number of dense layers first, every how many layers) so that exactly these layers have experts."""
    for every in range(1, n_layers + 1):
        for first in range(n_layers):
            if list(layers) == [i for i in range(first, n_layers) if (i + 1) % every == 0]:
                return first, every
    raise SpecError(f"{field}: layers with experts must be every nth from one on")


def _numbers(config: Config, **defaults: int) -> dict[str, int]:
    """The six numbers that every model has; one that the config lacks is taken from ``defaults``.

    ``d_ff=0`` as default stands for four times the model's width.
    """
    found = {ours: optional(config, *theirs) for ours, theirs in _SHAPE.items()}
    missing = [theirs[0] for ours, theirs in _SHAPE.items() if found[ours] is None and ours not in defaults]
    if missing:
        raise SpecError(f"{', '.join(missing)}: missing from the config")
    numbers = {ours: defaults[ours] if value is None else value for ours, value in found.items()}
    numbers["d_ff"] = numbers["d_ff"] or 4 * numbers["d_model"]
    for ours, theirs in _SHAPE.items():
        if numbers[ours] < 1:
            raise SpecError(f"{theirs[0]}={numbers[ours]}: must be at least 1")
    return numbers


def _head_size(config: Config, d_model: int, n_heads: int) -> int:
    """``head_dim``, or the width of the model over its heads."""
    given = optional(config, "head_dim")
    if given is None and d_model % n_heads:
        raise SpecError(
            f"hidden_size={d_model}: not divisible by num_attention_heads={n_heads}, and no head_dim is given"
        )
    return d_model // n_heads if given is None else given


def _cosmetics(config: Config) -> dict[str, Any]:
    """What costs nothing but is a fact: rotary base and scaling, norm's epsilon, activation; absent if not given."""
    rope = config.get("rope_parameters") or {}
    rope = {**rope, **(rope.get(_FULL) or {}), **(config.get("rope_scaling") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    found = {
        "rope_theta": config.get("rope_theta") or rope.get("rope_theta"),
        "rope_scaling": None if kind in {"default", None} else str(kind),
        "norm_eps": next((config[name] for name in _EPSILONS if config.get(name) is not None), None),
        "activation": next((config[name] for name in _ACTIVATIONS if config.get(name) is not None), None),
    }
    for name in ("rope_theta", "norm_eps"):
        if found[name] is not None and not isinstance(found[name], int | float):
            raise SpecError(f"{name}={found[name]!r}: must be a number")
    return {name: value for name, value in found.items() if value is not None}
