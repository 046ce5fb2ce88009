// Products of bf16 matrices with sums in fp32: tiles of 6 rows and 64 columns, whose 24 sums stay in registers.
//
// One operand is read as it stands, the other from panels of 64 columns in which pairs along the contracted index lie
// side by side (``vectors.h``); a panel is small enough for the caches next to the core, and so is a block of rows.

#pragma once

#include "vectors.h"

namespace twobills {

constexpr int kRows = 6;     // of a tile
constexpr int kVectors = 4;  // of a tile's row
constexpr Size kPanel = kVectors * kLanes;
constexpr Size kRowBlock = 96;       // rows that go through all panels before the next rows do
constexpr Size kOuterRows = 48;      // of a weight's gradient, from one panel
constexpr Size kOuterTokens = 2048;  // contracted at once: what a panel of them takes stays near the core

// Adds to the sums; ``words`` of row r stand at r * row_stride + k * pair_stride for the k-th pair.
template <int R, int V>
INLINE void multiply(Vector (&sums)[R][V], const Pair* words, Size row_stride, Size pair_stride, const Pair* panel,
                     Size panel_stride, Size n_pairs) {
  for (Size k = 0; k < n_pairs; k++) {
    __m512bh column[V];
    UNROLL for (int v = 0; v < V; v++) column[v] = (__m512bh)_mm512_loadu_si512(panel + k * panel_stride + v * kLanes);
    UNROLL for (int r = 0; r < R; r++) {
      Pair word;
      std::memcpy(&word, words + r * row_stride + k * pair_stride, sizeof word);
      const __m512bh row = (__m512bh)_mm512_set1_epi32(int(word));
      UNROLL for (int v = 0; v < V; v++) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], row, column[v]);
    }
  }
}

template <int R, int V>
INLINE void clear(Vector (&sums)[R][V]) {
  UNROLL for (int r = 0; r < R; r++) {
    UNROLL for (int v = 0; v < V; v++) sums[r][v] = zeros();
  }
}

// Calls ``run`` with R and V as constants.
template <int R, int V>
struct Tile {
  static constexpr int rows = R, vectors = V;
};

template <int V, typename Run>
INLINE void with_rows(Size n_rows, Run&& run) {
  switch (n_rows) {
    case 1: return run(Tile<1, V>{});
    case 2: return run(Tile<2, V>{});
    case 3: return run(Tile<3, V>{});
    case 4: return run(Tile<4, V>{});
    case 5: return run(Tile<5, V>{});
    default: return run(Tile<6, V>{});
  }
}

template <typename Run>
INLINE void with_tile(Size n_rows, Size n_vectors, Run&& run) {
  switch (n_vectors) {
    case 1: return with_rows<1>(n_rows, run);
    case 2: return with_rows<2>(n_rows, run);
    case 3: return with_rows<3>(n_rows, run);
    default: return with_rows<4>(n_rows, run);
  }
}

// Every tile of ``n_rows`` by ``n_columns``: run(tile, first row, first column).
template <typename Run>
INLINE void each_tile(Size n_rows, Size n_columns, Run&& run) {
  for (Size c = 0; c < n_columns; c += kPanel)
    for (Size r = 0; r < n_rows; r += kRows)
      with_tile(std::min<Size>(kRows, n_rows - r), std::min<Size>(kVectors, (n_columns - c) / kLanes),
                [&](auto tile) { run(tile, r, c); });
}

// A weight (outputs, inputs) in panels, to be multiplied by rows of inputs: [output / 64][input / 2][64].
static void pack_outputs(const bf16* weight, Size n_outputs, Size n_inputs, Pair* panels) {
  for (Size c = 0; c < n_outputs; c += kPanel) {
    const Size width = std::min(kPanel, n_outputs - c);
    transpose_pairs(weight + c * n_inputs, n_inputs, width, n_inputs / 2, panels + c * (n_inputs / 2), width);
  }
}

// The same weight to be multiplied by rows of outputs' gradients: [input / 64][output / 2][64].
static void pack_inputs(const bf16* weight, Size n_outputs, Size n_inputs, Pair* panels) {
  for (Size c = 0; c < n_inputs; c += kPanel) {
    const Size width = std::min(kPanel, n_inputs - c);
    interleave_rows(weight + c, n_inputs, n_outputs, width, panels + c * (n_outputs / 2), width);
  }
}

struct Rows {
  const bf16* data;
  Size stride;
  Size n;
};

// out = rows times panels, plus ``beside`` where there is one (which may be ``out``'s own place).
static void product(Rows a, const Pair* panels, Size n_contracted, Size n_columns, bf16* out, const bf16* beside,
                    int n_threads) {
  const Size n_pairs = n_contracted / 2, n_blocks = (a.n + kRowBlock - 1) / kRowBlock;
#pragma omp parallel for num_threads(n_threads) schedule(dynamic) if (n_threads > 1)
  for (Size block = 0; block < n_blocks; block++) {
    const Size start = block * kRowBlock, n_rows = std::min(kRowBlock, a.n - start);
    each_tile(n_rows, n_columns, [&](auto tile, Size r, Size c) {
      constexpr int R = decltype(tile)::rows, V = decltype(tile)::vectors;
      Vector sums[R][V];
      clear(sums);
      const Size width = std::min(kPanel, n_columns - c);
      multiply(sums, reinterpret_cast<const Pair*>(a.data + (start + r) * a.stride), a.stride / 2, 1,
               panels + c * n_pairs, width, n_pairs);
      UNROLL for (int i = 0; i < R; i++) {
        const Size at = (start + r + i) * n_columns + c;
        UNROLL for (int v = 0; v < V; v++) {
          const Vector added = beside ? _mm512_add_ps(sums[i][v], load(beside + at + v * kLanes)) : sums[i][v];
          store(out + at + v * kLanes, added);
        }
      }
    });
  }
}

// Adds to ``into`` what a tile of a weight's gradient contracts over ``n_pairs`` pairs of tokens.
INLINE void outer_tiles(const Pair* grads, Size n_grads, const Pair* inputs, Size n_inputs, Size n_pairs, bf16* into,
                        Size into_stride) {
  each_tile(n_grads, n_inputs, [&](auto tile, Size r, Size c) {
    constexpr int R = decltype(tile)::rows, V = decltype(tile)::vectors;
    Vector sums[R][V];
    clear(sums);
    multiply(sums, grads + r, 1, n_grads, inputs + c, n_inputs, n_pairs);
    UNROLL for (int i = 0; i < R; i++) {
      UNROLL for (int v = 0; v < V; v++) {
        bf16* at = into + (r + i) * into_stride + c + v * kLanes;
        store(at, _mm512_add_ps(sums[i][v], load(at)));
      }
    }
  });
}

// into (outputs, inputs) += grads^T inputs, contracted over tokens. The narrower operand is laid out whole, the other
// panel by panel just before its tiles.
static void add_outer(Rows grads, Size n_outputs, Rows inputs, Size n_inputs, bf16* into, int n_threads) {
  static thread_local Scratch<Pair> whole_scratch;
  const bool inputs_whole = n_inputs <= n_outputs;
  const Rows narrow = inputs_whole ? inputs : grads, wide = inputs_whole ? grads : inputs;
  const Size n_narrow = std::min(n_inputs, n_outputs), n_wide = std::max(n_inputs, n_outputs);
  const Size narrow_panel = inputs_whole ? kPanel : kOuterRows, wide_panel = inputs_whole ? kOuterRows : kPanel;
  Pair* whole = whole_scratch.of(round_up(n_narrow, narrow_panel) * (std::min(kOuterTokens, grads.n) + 1) / 2);
  for (Size start = 0; start < grads.n; start += kOuterTokens) {
    const Size n_tokens = std::min(kOuterTokens, grads.n - start), n_pairs = (n_tokens + 1) / 2;
#pragma omp parallel num_threads(n_threads) if (n_threads > 1)
    {
      static thread_local Scratch<Pair> panel_scratch;
      Pair* panel = panel_scratch.of(wide_panel * n_pairs);
#pragma omp for schedule(static)
      for (Size i = 0; i < n_narrow; i += narrow_panel)
        interleave_rows(narrow.data + start * narrow.stride + i, narrow.stride, n_tokens,
                        std::min(narrow_panel, n_narrow - i), whole + i * n_pairs,
                        std::min(narrow_panel, n_narrow - i));
#pragma omp for schedule(dynamic)
      for (Size j = 0; j < n_wide; j += wide_panel) {
        const Size n_here = std::min(wide_panel, n_wide - j);
        interleave_rows(wide.data + start * wide.stride + j, wide.stride, n_tokens, n_here, panel, n_here);
        for (Size i = 0; i < n_narrow; i += narrow_panel) {
          const Size n_there = std::min(narrow_panel, n_narrow - i);
          if (inputs_whole)
            outer_tiles(panel, n_here, whole + i * n_pairs, n_there, n_pairs, into + j * n_inputs + i, n_inputs);
          else
            outer_tiles(whole + i * n_pairs, n_there, panel, n_here, n_pairs, into + i * n_inputs + j, n_inputs);
        }
      }
    }
  }
}

}  // namespace twobills
