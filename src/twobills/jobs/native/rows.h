// What is done row by row: root-mean-square norms, and the MLP's activation, forward and backward.

#pragma once

#include "vectors.h"

namespace twobills {

constexpr Size kRowsOfSum = 64;  // of a norm's weight gradient in one partial sum, whatever the number of threads

// normed = x / rms(x) * weight, and 1 / rms(x) of every row.
static void norm_forward(const bf16* x, const bf16* weight, float eps, Size n_rows, Size width, bf16* normed,
                         float* inverse, int n_threads) {
#pragma omp parallel for num_threads(n_threads) schedule(static) if (n_threads > 1)
  for (Size r = 0; r < n_rows; r++) {
    const bf16* row = x + r * width;
    Vector squares = zeros();
    for (Size i = 0; i < width; i += kLanes) squares = _mm512_fmadd_ps(load(row + i), load(row + i), squares);
    inverse[r] = 1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / float(width) + eps);
    for (Size i = 0; i < width; i += kLanes)
      store(normed + r * width + i, _mm512_mul_ps(_mm512_mul_ps(load(row + i), all(inverse[r])), load(weight + i)));
  }
}

// out = beside + the gradient of x, from ``grad``, that of normed; the weight's gradient is added to ``into``.
static void norm_backward(const bf16* grad, const bf16* x, const float* inverse, const bf16* weight, const bf16* beside,
                          Size n_rows, Size width, bf16* out, bf16* into, int n_threads) {
  static thread_local Scratch<float> scratch;
  const Size n_sums = (n_rows + kRowsOfSum - 1) / kRowsOfSum;
  float* sums = scratch.of(n_sums * width);
#pragma omp parallel for num_threads(n_threads) schedule(static) if (n_threads > 1)
  for (Size s = 0; s < n_sums; s++) {
    float* sum = sums + s * width;
    std::memset(sum, 0, width * sizeof(float));
    for (Size r = s * kRowsOfSum; r < std::min(n_rows, (s + 1) * kRowsOfSum); r++) {
      const Size at = r * width;
      const Vector factor = all(inverse[r]);
      Vector along = zeros();
      for (Size i = 0; i < width; i += kLanes) {
        const Vector unit = _mm512_mul_ps(load(x + at + i), factor), product = _mm512_mul_ps(load(grad + at + i), unit);
        store(sum + i, _mm512_add_ps(load(sum + i), product));
        along = _mm512_fmadd_ps(product, load(weight + i), along);
      }
      const Vector mean = all(_mm512_reduce_add_ps(along) / float(width));
      for (Size i = 0; i < width; i += kLanes) {
        const Vector unit = _mm512_mul_ps(load(x + at + i), factor);
        const Vector change = _mm512_fnmadd_ps(unit, mean, _mm512_mul_ps(load(grad + at + i), load(weight + i)));
        store(out + at + i, _mm512_fmadd_ps(change, factor, load(beside + at + i)));
      }
    }
  }
  for (Size i = 0; i < width; i += kLanes) {
    Vector total = load(into + i);
    for (Size s = 0; s < n_sums; s++) total = _mm512_add_ps(total, load(sums + s * width + i));
    store(into + i, total);
  }
}

// hidden = silu(gate) * up of rows (gate, up), or relu(up)^2 where nothing gates.
static void mlp_forward(const bf16* up, bool gated, Size n_rows, Size d_ff, bf16* hidden, int n_threads) {
#pragma omp parallel for num_threads(n_threads) schedule(static) if (n_threads > 1)
  for (Size r = 0; r < n_rows; r++) {
    const bf16* row = up + r * d_ff * (gated ? 2 : 1);
    for (Size i = 0; i < d_ff; i += kLanes) {
      const Vector x = load(row + i), relu = _mm512_max_ps(zeros(), x);
      const Vector y = gated ? _mm512_mul_ps(_mm512_mul_ps(x, sigmoid(x)), load(row + d_ff + i))
                             : _mm512_mul_ps(relu, relu);
      store(hidden + r * d_ff + i, y);
    }
  }
}

// The gradient of (gate, up), or of up, from that of hidden; hidden itself is made again on the way.
static void mlp_backward(const bf16* grad_hidden, const bf16* up, bool gated, Size n_rows, Size d_ff, bf16* grad_up,
                         bf16* hidden, int n_threads) {
#pragma omp parallel for num_threads(n_threads) schedule(static) if (n_threads > 1)
  for (Size r = 0; r < n_rows; r++) {
    const bf16* row = up + r * d_ff * (gated ? 2 : 1);
    bf16* out = grad_up + r * d_ff * (gated ? 2 : 1);
    for (Size i = 0; i < d_ff; i += kLanes) {
      const Vector grad = load(grad_hidden + r * d_ff + i), x = load(row + i);
      if (!gated) {
        const Vector relu = _mm512_max_ps(zeros(), x);
        store(out + i, _mm512_mul_ps(grad, _mm512_add_ps(relu, relu)));
        store(hidden + r * d_ff + i, _mm512_mul_ps(relu, relu));
        continue;
      }
      const Vector s = sigmoid(x), silu = _mm512_mul_ps(x, s), y = load(row + d_ff + i);
      const Vector slope = _mm512_fmadd_ps(silu, _mm512_sub_ps(all(1.0f), s), s);  // s + x s (1 - s)
      store(out + i, _mm512_mul_ps(_mm512_mul_ps(grad, y), slope));
      store(out + d_ff + i, _mm512_mul_ps(grad, silu));
      store(hidden + r * d_ff + i, _mm512_mul_ps(silu, y));
    }
  }
}

}  // namespace twobills
