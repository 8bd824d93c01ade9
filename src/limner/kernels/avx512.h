/* What kernels for processors with AVX-512 share: numbers, the exponential, and work on the threads of OpenMP. */

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

/* GNU OpenMP's GOMP_parallel: runs a function on so many threads. */
typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);

static inline void in_parallel(void (*task)(void *), void *work, Parallel parallel, unsigned threads) {
    if (parallel && threads > 1)
        parallel(task, work, threads, 0);
    else
        task(work);
}

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static inline float wide(bf16 number) {
    uint32_t bits = (uint32_t)number << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* 16 numbers in fp32, of which those in `mask` are read. */
static inline __m512 read_wide(const bf16 *from, __mmask16 mask) {
    __m512i bits = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

static inline void write_half(bf16 *to, __mmask16 mask, __m512 numbers) {
    _mm256_mask_storeu_epi16(to, mask, (__m256i)_mm512_cvtneps_pbh(numbers));
}

/* 2^x to 4e-6 of itself, 0 where it is too small. */
static inline __m512 exp2_of(__m512 x) {
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 rest = _mm512_sub_ps(x, whole); /* -1/2 to 1/2 */
    __m512 sum = _mm512_fmadd_ps(rest, _mm512_set1_ps(0.0096181291f), _mm512_set1_ps(0.0555041087f));
    sum = _mm512_fmadd_ps(rest, sum, _mm512_set1_ps(0.2402265070f));
    sum = _mm512_fmadd_ps(rest, sum, _mm512_set1_ps(0.6931471806f));
    sum = _mm512_fmadd_ps(rest, sum, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(sum, whole);
}
