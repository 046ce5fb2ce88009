// Causal attention, forward and backward, a block of queries at a time: scores never leave the core's caches.
//
// What is kept for the backward pass is one number per query and head, the logarithm of the sum of exponentials, as in
// FlashAttention (Dao et al. 2022); probabilities are made again from it. A block of queries sees all its keys at once,
// so its softmax is the plain one. Queries, keys and values stand in the rows that one product made, (token, heads,
// head size): query heads first, then key heads, then value heads; several query heads may share a key head.

#pragma once

#include "products.h"

namespace twobills {

constexpr Size kQueries = 48;  // of a block; even

struct Heads {
  Size n_sequences, seq_len, n_heads, n_kv_heads, d_head;

  Size row() const { return (n_heads + 2 * n_kv_heads) * d_head; }
  Size width() const { return n_heads * d_head; }
  Size shared() const { return n_heads / n_kv_heads; }
  Size padded() const { return round_up(seq_len, kLanes); }
  float scale() const { return 1.0f / std::sqrt(float(d_head)); }
};

// A block's queries, and the keys that any of them sees, in whole vectors.
struct Block {
  Size start, n, n_keys;
};

INLINE Block block_at(Size start, const Heads& heads) {
  const Size n = std::min(kQueries, heads.seq_len - start);
  return {start, n, round_up(start + n, kLanes)};
}

// out (rows, columns) = or += words times the panel, in fp32.
template <bool Add>
INLINE void to_floats(const Pair* words, Size row_stride, Size pair_stride, Size n_rows, const Pair* panel,
                      Size panel_stride, Size n_pairs, Size n_columns, float* out, Size out_stride) {
  each_tile(n_rows, n_columns, [&](auto tile, Size r, Size c) {
    constexpr int R = decltype(tile)::rows, V = decltype(tile)::vectors;
    Vector sums[R][V];
    clear(sums);
    multiply(sums, words + r * row_stride, row_stride, pair_stride, panel + c, panel_stride, n_pairs);
    UNROLL for (int i = 0; i < R; i++) {
      UNROLL for (int v = 0; v < V; v++) {
        float* at = out + (r + i) * out_stride + c + v * kLanes;
        store(at, Add ? _mm512_add_ps(sums[i][v], load(at)) : sums[i][v]);
      }
    }
  });
}

INLINE const Pair* words(const bf16* rows) { return reinterpret_cast<const Pair*>(rows); }

// Keys or values with pairs along the head: [d_head / 2][padded].
static void pack_along_head(const bf16* rows, Size stride, const Heads& heads, Pair* to) {
  if (heads.padded() != heads.seq_len) std::memset(to, 0, heads.d_head / 2 * heads.padded() * sizeof(Pair));
  transpose_pairs(rows, stride, heads.seq_len, heads.d_head / 2, to, heads.padded());
}

// Keys or values with pairs along the sequence: [padded / 2][d_head].
static void pack_along_keys(const bf16* rows, Size stride, const Heads& heads, Pair* to) {
  const Size n_pairs = (heads.seq_len + 1) / 2;
  interleave_rows(rows, stride, heads.seq_len, heads.d_head, to, heads.d_head);
  std::memset(to + n_pairs * heads.d_head, 0, (heads.padded() / 2 - n_pairs) * heads.d_head * sizeof(Pair));
}

// The numbers of a vector of scores that a query at ``position`` sees, the vector's first key being ``key``.
INLINE __mmask16 seen(Size position, Size key) {
  const Size n = position + 1 - key;
  return n >= kLanes ? 0xffff : n <= 0 ? 0 : __mmask16((1u << n) - 1);
}

// Scores times ``scale``, those of other documents far below; ``forbidden`` is the query's row or nothing.
INLINE Vector scaled(const float* scores, Size key, float scale, const bf16* forbidden) {
  const Vector score = _mm512_mul_ps(load(scores + key), all(scale));
  return forbidden ? _mm512_add_ps(score, load(forbidden + key)) : score;
}

// The softmax of one query's scores, without its denominator, to bf16; returns the largest score and the denominator.
struct Normaliser {
  float largest, sum;
};

INLINE Normaliser exponentials(const float* scores, Size position, Size n_keys, float scale, const bf16* forbidden,
                               bf16* out) {
  const Size n_seen = round_up(position + 1, kLanes);
  Vector top = all(-INFINITY), sum = zeros();
  for (Size k = 0; k < n_seen; k += kLanes)
    top = _mm512_mask_max_ps(top, seen(position, k), top, scaled(scores, k, scale, forbidden));
  const float largest = _mm512_reduce_max_ps(top);
  for (Size k = 0; k < n_seen; k += kLanes) {
    const Vector e = _mm512_maskz_mov_ps(
        seen(position, k), exponential(_mm512_sub_ps(scaled(scores, k, scale, forbidden), all(largest))));
    sum = _mm512_add_ps(sum, e);
    store(out + k, e);
  }
  for (Size k = n_seen; k < n_keys; k += kLanes) store(out + k, zeros());
  return {largest, _mm512_reduce_add_ps(sum)};
}

// Turns pairs of a head's halves by their position's angle, in place, or back for gradients.
template <typename T>
INLINE void rotate(const T* from, bf16* to, const bf16* cos, const bf16* sin, Size d_head, bool back) {
  const Size half = d_head / 2;
  for (Size d = 0; d < half; d += kLanes) {
    const Vector a = load(from + d), b = load(from + half + d), c = load(cos + d);
    const Vector s = back ? _mm512_sub_ps(zeros(), load(sin + half + d)) : load(sin + half + d);
    store(to + d, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
    store(to + half + d, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
  }
}

// ``qkv``'s queries and keys are rotated in place, ``mixed`` (token, heads, head size) and ``log_sums`` (token, heads)
// written. ``cos`` and ``sin`` are (seq_len, d_head); ``forbidden`` (sequence, query, key) is 0 or -inf, padded with
// whatever is readable, or absent.
static void attention_forward(const Heads& heads, bf16* qkv, const bf16* cos, const bf16* sin, const bf16* forbidden,
                              bf16* mixed, float* log_sums, int n_threads) {
  const Size D = heads.d_head, T = heads.seq_len, P = heads.padded(), row = heads.row();
#pragma omp parallel for num_threads(n_threads) schedule(dynamic) if (n_threads > 1)
  for (Size job = 0; job < heads.n_sequences * heads.n_kv_heads; job++) {
    static thread_local Scratch<Pair> pairs;
    static thread_local Scratch<float> floats;
    static thread_local Scratch<bf16> numbers;
    const Size sequence = job / heads.n_kv_heads, kv = job % heads.n_kv_heads;
    bf16* tokens = qkv + sequence * T * row;
    bf16* keys = tokens + (heads.n_heads + kv) * D;
    const bf16* values = keys + heads.n_kv_heads * D;
    Pair *k_pairs = pairs.of(P * D), *v_pairs = k_pairs + P * D / 2;
    float *scores = floats.of(kQueries * (P + D)), *out = scores + kQueries * P;
    bf16* probabilities = numbers.of(kQueries * P);
    for (Size t = 0; t < T; t++) rotate(keys + t * row, keys + t * row, cos + t * D, sin + t * D, D, false);
    pack_along_head(keys, row, heads, k_pairs);
    pack_along_keys(values, row, heads, v_pairs);
    for (Size head = kv * heads.shared(); head < (kv + 1) * heads.shared(); head++) {
      bf16* queries = tokens + head * D;
      for (Size t = 0; t < T; t++) rotate(queries + t * row, queries + t * row, cos + t * D, sin + t * D, D, false);
      for (Size start = 0; start < T; start += kQueries) {
        const Block block = block_at(start, heads);
        to_floats<false>(words(queries + start * row), row / 2, 1, block.n, k_pairs, P, D / 2, block.n_keys, scores, P);
        Normaliser found[kQueries];
        for (Size i = 0; i < block.n; i++)
          found[i] = exponentials(scores + i * P, start + i, block.n_keys, heads.scale(),
                                  forbidden ? forbidden + (sequence * T + start + i) * P : nullptr,
                                  probabilities + i * P);
        to_floats<false>(words(probabilities), P / 2, 1, block.n, v_pairs, D, block.n_keys / 2, D, out, D);
        for (Size i = 0; i < block.n; i++) {
          const Size token = sequence * T + start + i;
          for (Size d = 0; d < D; d += kLanes)
            store(mixed + token * heads.width() + head * D + d,
                  _mm512_mul_ps(load(out + i * D + d), all(1.0f / found[i].sum)));
          log_sums[token * heads.n_heads + head] = found[i].largest + std::log(found[i].sum);
        }
      }
    }
  }
}

// One query on the way back: its rows of scores and of their gradients, and what it was normalised by.
struct Query {
  const float* scores;
  const float* grads;  // of probabilities
  bf16* grad_scores;
  Size position;
  float log_sum, delta;  // delta: sum of probabilities times their gradients
  const bf16* forbidden;
};

// Two queries' probabilities again, and the gradients p (dp - delta) scale of their scores: both as pairs along the
// queries, the gradients also row by row. The second query may be none: zeros.
INLINE void gradients(const Query (&queries)[2], Size n_keys, float scale, Pair* probability_pairs, Pair* score_pairs) {
  for (Size k = 0; k < n_keys; k += kLanes) {
    Vector p[2] = {zeros(), zeros()}, s[2] = {zeros(), zeros()};
    for (int j = 0; j < 2 && queries[j].scores; j++) {
      const Query& q = queries[j];
      const Vector score = scaled(q.scores, k, scale, q.forbidden);
      p[j] = _mm512_maskz_mov_ps(seen(q.position, k), exponential(_mm512_sub_ps(score, all(q.log_sum))));
      s[j] = _mm512_mul_ps(_mm512_mul_ps(p[j], all(scale)), _mm512_sub_ps(load(q.grads + k), all(q.delta)));
      store(q.grad_scores + k, s[j]);
    }
    _mm512_storeu_si512(probability_pairs + k, interleaved(p[0], p[1]));
    _mm512_storeu_si512(score_pairs + k, interleaved(s[0], s[1]));
  }
}

INLINE float dot(const bf16* a, const bf16* b, Size n) {
  Vector sum = zeros();
  for (Size i = 0; i < n; i += kLanes) sum = _mm512_fmadd_ps(load(a + i), load(b + i), sum);
  return _mm512_reduce_add_ps(sum);
}

// The gradient of what made ``qkv``, before its rotation, from the gradient of ``mixed``.
static void attention_backward(const Heads& heads, const bf16* grad_mixed, const bf16* qkv, const bf16* mixed,
                               const float* log_sums, const bf16* cos, const bf16* sin, const bf16* forbidden,
                               bf16* grad_qkv, int n_threads) {
  const Size D = heads.d_head, T = heads.seq_len, P = heads.padded(), row = heads.row(), width = heads.width();
#pragma omp parallel for num_threads(n_threads) schedule(dynamic) if (n_threads > 1)
  for (Size job = 0; job < heads.n_sequences * heads.n_kv_heads; job++) {
    static thread_local Scratch<Pair> pairs;
    static thread_local Scratch<float> floats;
    static thread_local Scratch<bf16> numbers;
    const Size sequence = job / heads.n_kv_heads, kv = job % heads.n_kv_heads, first = sequence * T;
    const bf16* tokens = qkv + first * row;
    const bf16 *keys = tokens + (heads.n_heads + kv) * D, *values = keys + heads.n_kv_heads * D;
    bf16* grad_tokens = grad_qkv + first * row;
    bf16 *grad_keys = grad_tokens + (heads.n_heads + kv) * D, *grad_values = grad_keys + heads.n_kv_heads * D;
    Pair* k_head = pairs.of(3 * P * D / 2 + kQueries * (P + D));
    Pair *v_head = k_head + P * D / 2, *k_keys = v_head + P * D / 2;
    Pair *p_pairs = k_keys + P * D / 2, *s_pairs = p_pairs + kQueries / 2 * P;
    Pair *q_pairs = s_pairs + kQueries / 2 * P, *o_pairs = q_pairs + kQueries / 2 * D;
    float* scores = floats.of(kQueries * (2 * P + D) + 2 * P * D);
    float *grads = scores + kQueries * P, *dq = grads + kQueries * P, *dk = dq + kQueries * D, *dv = dk + P * D;
    bf16* grad_scores = numbers.of(kQueries * P);
    pack_along_head(keys, row, heads, k_head);
    pack_along_head(values, row, heads, v_head);
    pack_along_keys(keys, row, heads, k_keys);
    std::memset(dk, 0, 2 * P * D * sizeof(float));
    for (Size head = kv * heads.shared(); head < (kv + 1) * heads.shared(); head++) {
      for (Size start = 0; start < T; start += kQueries) {
        const Block block = block_at(start, heads);
        const Size n_pairs = (block.n + 1) / 2;
        const bf16* queries = tokens + start * row + head * D;
        const Size at = (first + start) * width + head * D;
        to_floats<false>(words(queries), row / 2, 1, block.n, k_head, P, D / 2, block.n_keys, scores, P);
        to_floats<false>(words(grad_mixed + at), width / 2, 1, block.n, v_head, P, D / 2, block.n_keys, grads, P);
        for (Size i = 0; i < block.n; i += 2) {
          Query pair[2] = {};
          for (Size j = 0; j < std::min<Size>(2, block.n - i); j++) {
            const Size token = first + start + i + j, place = at + (i + j) * width;
            pair[j] = {scores + (i + j) * P, grads + (i + j) * P, grad_scores + (i + j) * P, start + i + j,
                       log_sums[token * heads.n_heads + head], dot(grad_mixed + place, mixed + place, D),
                       forbidden ? forbidden + token * P : nullptr};
          }
          gradients(pair, block.n_keys, heads.scale(), p_pairs + i / 2 * P, s_pairs + i / 2 * P);
        }
        interleave_rows(queries, row, block.n, D, q_pairs, D);
        interleave_rows(grad_mixed + at, width, block.n, D, o_pairs, D);
        to_floats<true>(p_pairs, 1, P, block.n_keys, o_pairs, D, n_pairs, D, dv, D);
        to_floats<true>(s_pairs, 1, P, block.n_keys, q_pairs, D, n_pairs, D, dk, D);
        to_floats<false>(words(grad_scores), P / 2, 1, block.n, k_keys, D, block.n_keys / 2, D, dq, D);
        for (Size i = 0; i < block.n; i++) {
          const Size t = start + i;
          rotate(dq + i * D, grad_tokens + t * row + head * D, cos + t * D, sin + t * D, D, true);
        }
      }
    }
    for (Size t = 0; t < T; t++) {
      rotate(dk + t * D, grad_keys + t * row, cos + t * D, sin + t * D, D, true);
      for (Size d = 0; d < D; d += kLanes) store(grad_values + t * row + d, load(dv + t * D + d));
    }
  }
}

}  // namespace twobills
