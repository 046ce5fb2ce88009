// What Python calls (``kernels.py``): C functions over row-major bf16 matrices. Widths are multiples of 32, a head's
// size too; the caller sees to it. No function keeps a pointer, and none reads or writes what is not named.

#include "attention.h"
#include "products.h"
#include "rows.h"

using namespace twobills;

namespace {

// Weights are laid out anew for each product: it costs half a per cent of it, and nothing has to be kept in step.
Pair* room_for_weight(Size n) {
  static thread_local Scratch<Pair> scratch;
  return scratch.of(n / 2);
}

}  // namespace

extern "C" {

// out (n_rows, n_outputs) = x (n_rows, n_inputs) weight^T, plus ``beside`` unless it is null.
void twobills_forward_product(const bf16* x, const bf16* weight, const bf16* beside, Size n_rows, Size n_inputs,
                              Size n_outputs, bf16* out, int n_threads) {
  Pair* panels = room_for_weight(n_inputs * n_outputs);
  pack_outputs(weight, n_outputs, n_inputs, panels);
  product({x, n_inputs, n_rows}, panels, n_inputs, n_outputs, out, beside, n_threads);
}

// out (n_rows, n_inputs) = grad (n_rows, n_outputs) weight.
void twobills_backward_product(const bf16* grad, const bf16* weight, Size n_rows, Size n_inputs, Size n_outputs,
                               bf16* out, int n_threads) {
  Pair* panels = room_for_weight(n_inputs * n_outputs);
  pack_inputs(weight, n_outputs, n_inputs, panels);
  product({grad, n_outputs, n_rows}, panels, n_outputs, n_inputs, out, nullptr, n_threads);
}

// into (n_outputs, n_inputs) += grad^T x.
void twobills_weight_gradient(const bf16* grad, const bf16* x, Size n_rows, Size n_inputs, Size n_outputs, bf16* into,
                              int n_threads) {
  add_outer({grad, n_outputs, n_rows}, n_outputs, {x, n_inputs, n_rows}, n_inputs, into, n_threads);
}

void twobills_attention_forward(bf16* qkv, const bf16* cos, const bf16* sin, const bf16* forbidden, Size n_sequences,
                                Size seq_len, Size n_heads, Size n_kv_heads, Size d_head, bf16* mixed, float* log_sums,
                                int n_threads) {
  attention_forward({n_sequences, seq_len, n_heads, n_kv_heads, d_head}, qkv, cos, sin, forbidden, mixed, log_sums,
                    n_threads);
}

void twobills_attention_backward(const bf16* grad_mixed, const bf16* qkv, const bf16* mixed, const float* log_sums,
                                 const bf16* cos, const bf16* sin, const bf16* forbidden, Size n_sequences,
                                 Size seq_len, Size n_heads, Size n_kv_heads, Size d_head, bf16* grad_qkv,
                                 int n_threads) {
  attention_backward({n_sequences, seq_len, n_heads, n_kv_heads, d_head}, grad_mixed, qkv, mixed, log_sums, cos, sin,
                     forbidden, grad_qkv, n_threads);
}

void twobills_norm_forward(const bf16* x, const bf16* weight, float eps, Size n_rows, Size width, bf16* normed,
                           float* inverse, int n_threads) {
  norm_forward(x, weight, eps, n_rows, width, normed, inverse, n_threads);
}

void twobills_norm_backward(const bf16* grad, const bf16* x, const float* inverse, const bf16* weight,
                            const bf16* beside, Size n_rows, Size width, bf16* out, bf16* into, int n_threads) {
  norm_backward(grad, x, inverse, weight, beside, n_rows, width, out, into, n_threads);
}

void twobills_mlp_forward(const bf16* up, int gated, Size n_rows, Size d_ff, bf16* hidden, int n_threads) {
  mlp_forward(up, gated, n_rows, d_ff, hidden, n_threads);
}

void twobills_mlp_backward(const bf16* grad_hidden, const bf16* up, int gated, Size n_rows, Size d_ff, bf16* grad_up,
                           bf16* hidden, int n_threads) {
  mlp_backward(grad_hidden, up, gated, n_rows, d_ff, grad_up, hidden, n_threads);
}
}
