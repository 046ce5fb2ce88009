// Vectors of AVX-512: bf16 read and rounded, pairs of bf16 laid out for the product instruction, exponentials.
//
// The processor multiplies bf16 in pairs: vdpbf16ps adds a[2i] b[2i] + a[2i+1] b[2i+1] to the i-th of 16 fp32 sums.
// So an operand whose contracted index runs along its rows is read as it stands, two numbers as one 32-bit word, and
// one whose contracted index runs down its columns has pairs of rows interleaved first.

#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

namespace twobills {

using bf16 = uint16_t;
using Pair = uint32_t;  // two bf16, the first in the low half
using Size = int64_t;
using Vector = __m512;  // 16 numbers in fp32

constexpr Size kLanes = 16;

INLINE Size round_up(Size n, Size unit) { return (n + unit - 1) / unit * unit; }

// Memory that a thread keeps from call to call.
template <typename T>
class Scratch {
 public:
  ~Scratch() { std::free(data_); }

  T* of(Size n) {
    if (n > size_) {
      std::free(data_);
      size_ = n;
      data_ = static_cast<T*>(std::aligned_alloc(64, round_up(n * Size(sizeof(T)), 64)));
      if (data_ == nullptr) throw std::bad_alloc();
    }
    return data_;
  }

 private:
  T* data_ = nullptr;
  Size size_ = 0;
};

INLINE Vector zeros() { return _mm512_setzero_ps(); }
INLINE Vector all(float x) { return _mm512_set1_ps(x); }

INLINE Vector widen(__m256i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16)); }
INLINE Vector load(const bf16* from) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))); }

INLINE Vector load(const float* from) { return _mm512_loadu_ps(from); }
INLINE void store(float* to, Vector x) { _mm512_storeu_ps(to, x); }

INLINE __m256i narrow(Vector x) { return (__m256i)_mm512_cvtneps_pbh(x); }
INLINE void store(bf16* to, Vector x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrow(x)); }

// 16 pairs: x's numbers first, y's second.
INLINE __m512i interleaved(Vector x, Vector y) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(y, x));
}

// e^x for x up to about 0, to fp32's last bits or so; as good as 0 from -104 down, and NaN of NaN.
INLINE Vector exponential(Vector x) {
  x = _mm512_max_ps(all(-104.0f), x);
  const Vector halves = _mm512_mul_ps(x, all(1.44269504f));
  const Vector whole = _mm512_roundscale_ps(halves, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  Vector rest = _mm512_fnmadd_ps(whole, all(0.693359375f), x);
  rest = _mm512_fnmadd_ps(whole, all(-2.12194440e-4f), rest);
  Vector sum = all(1.0f / 720);  // Taylor's series: |rest| is at most ln 2 / 2
  for (float term : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) sum = _mm512_fmadd_ps(sum, rest, all(term));
  return _mm512_scalef_ps(sum, whole);
}

// 1 / (1 + e^-x)
INLINE Vector sigmoid(Vector x) {
  const Vector e = exponential(_mm512_sub_ps(zeros(), _mm512_max_ps(all(-80.0f), x)));
  return _mm512_div_ps(all(1.0f), _mm512_add_ps(all(1.0f), e));
}

INLINE void store_pair_rows(Pair* to, __m512i row_0, __m512i row_1) {
  const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                       5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  _mm512_storeu_si512(to, _mm512_permutex2var_epi16(row_0, low, row_1));
  _mm512_storeu_si512(to + 16, _mm512_permutex2var_epi16(row_0, high, row_1));
}

// to[r / 2][c] = (from[r][c], from[r + 1][c]); a last row without another is paired with zeros.
static void interleave_rows(const bf16* from, Size stride, Size n_rows, Size n_columns, Pair* to, Size to_stride) {
  for (Size r = 0; r < n_rows; r += 2) {
    const bf16* row = from + r * stride;
    const bool both = r + 1 < n_rows;
    Size c = 0;
    for (; c + 32 <= n_columns; c += 32) {
      const __m512i other = both ? _mm512_loadu_si512(row + stride + c) : _mm512_setzero_si512();
      store_pair_rows(to + r / 2 * to_stride + c, _mm512_loadu_si512(row + c), other);
    }
    for (; c < n_columns; c++) to[r / 2 * to_stride + c] = row[c] | (both ? Pair(row[stride + c]) << 16 : 0);
  }
}

// 16 rows of 16 words to 16 columns.
INLINE void transpose_16x16(const bf16* from, Size stride, Pair* to, Size to_stride) {
  __m512i a[16], b[16];
  UNROLL for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_si512(from + i * stride);
  UNROLL for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
  }
  UNROLL for (int i = 0; i < 16; i += 4) {
    a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
    a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
    a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
    a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
  }
  UNROLL for (int i = 0; i < 4; i++) {
    const __m512i low_0 = _mm512_shuffle_i32x4(a[i], a[i + 4], 0x88);
    const __m512i low_1 = _mm512_shuffle_i32x4(a[i], a[i + 4], 0xdd);
    const __m512i high_0 = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0x88);
    const __m512i high_1 = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0xdd);
    _mm512_storeu_si512(to + i * to_stride, _mm512_shuffle_i32x4(low_0, high_0, 0x88));
    _mm512_storeu_si512(to + (i + 4) * to_stride, _mm512_shuffle_i32x4(low_1, high_1, 0x88));
    _mm512_storeu_si512(to + (i + 8) * to_stride, _mm512_shuffle_i32x4(low_0, high_0, 0xdd));
    _mm512_storeu_si512(to + (i + 12) * to_stride, _mm512_shuffle_i32x4(low_1, high_1, 0xdd));
  }
}

// to[p][r] = the p-th pair of row r.
static void transpose_pairs(const bf16* from, Size stride, Size n_rows, Size n_pairs, Pair* to, Size to_stride) {
  for (Size r = 0; r < n_rows; r += 16) {
    for (Size p = 0; p < n_pairs; p += 16) {
      if (r + 16 <= n_rows && p + 16 <= n_pairs) {
        transpose_16x16(from + r * stride + 2 * p, stride, to + p * to_stride + r, to_stride);
        continue;
      }
      for (Size i = r; i < std::min(n_rows, r + 16); i++)
        for (Size j = p; j < std::min(n_pairs, p + 16); j++)
          std::memcpy(&to[j * to_stride + i], from + i * stride + 2 * j, sizeof(Pair));
    }
  }
}

}  // namespace twobills
