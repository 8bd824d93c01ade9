/* The gated linear unit h * gelu(g) and its gradients, in bf16 with arithmetic in fp32 (Shazeer 2020, GEGLU).

   Rows hold h and then g, `width` numbers each. gelu(g) = g P(g), P the normal distribution's probability. Its tail
   beyond |g| is e^(-g g / 2) times a polynomial of t = 1 / (1 + 0.3275911 |g| / sqrt 2) / 2, to 1e-7 (Abramowitz and
   Stegun, 7.1.26); t is taken to 2^-14, below what bf16 can tell. */

#include "avx512.h"

#define LANES 16
#define SEGMENT 64 /* rows that a thread takes at once */

typedef struct {
    int64_t rows, width, next;
    const bf16 *x, *d_out; /* (rows, 2 width), (rows, width) */
    bf16 *out, *dx;        /* (rows, width), (rows, 2 width) */
} Work;

typedef struct {
    __m512 probability, density; /* P(g), and e^(-g g / 2) */
} Normal;

static inline Normal normal(__m512 g) {
    const __m512 size = _mm512_abs_ps(g);
    const __m512 density = exp2_of(_mm512_mul_ps(_mm512_mul_ps(g, g), _mm512_set1_ps(-0.72134752f))); /* log2(e) / 2 */
    const __m512 t = _mm512_rcp14_ps(_mm512_fmadd_ps(size, _mm512_set1_ps(0.3275911f * 0.70710678f), _mm512_set1_ps(1)));
    __m512 sum = _mm512_fmadd_ps(t, _mm512_set1_ps(1.061405429f), _mm512_set1_ps(-1.453152027f));
    sum = _mm512_fmadd_ps(t, sum, _mm512_set1_ps(1.421413741f));
    sum = _mm512_fmadd_ps(t, sum, _mm512_set1_ps(-0.284496736f));
    sum = _mm512_fmadd_ps(t, sum, _mm512_set1_ps(0.254829592f));
    const __m512 tail = _mm512_mul_ps(_mm512_mul_ps(sum, t), _mm512_mul_ps(density, _mm512_set1_ps(0.5f)));
    const __mmask16 positive = _mm512_cmp_ps_mask(g, _mm512_setzero_ps(), _CMP_GT_OQ);
    return (Normal){_mm512_mask_sub_ps(tail, positive, _mm512_set1_ps(1), tail), density};
}

static void forward(const Work *work, int64_t row) {
    const bf16 *h = work->x + 2 * row * work->width, *gate = h + work->width;
    for (int64_t at = 0; at < work->width; at += LANES) {
        const __mmask16 mask = (__mmask16)((1u << least(LANES, work->width - at)) - 1);
        const __m512 g = read_wide(gate + at, mask);
        const __m512 unit = _mm512_mul_ps(g, normal(g).probability);
        write_half(work->out + row * work->width + at, mask, _mm512_mul_ps(read_wide(h + at, mask), unit));
    }
}

static void backward(const Work *work, int64_t row) {
    const bf16 *h = work->x + 2 * row * work->width, *gate = h + work->width;
    bf16 *dh = work->dx + 2 * row * work->width, *d_gate = dh + work->width;
    for (int64_t at = 0; at < work->width; at += LANES) {
        const __mmask16 mask = (__mmask16)((1u << least(LANES, work->width - at)) - 1);
        const __m512 g = read_wide(gate + at, mask), dy = read_wide(work->d_out + row * work->width + at, mask);
        const Normal of = normal(g);
        write_half(dh + at, mask, _mm512_mul_ps(dy, _mm512_mul_ps(g, of.probability)));
        const __m512 slope = _mm512_fmadd_ps(_mm512_mul_ps(g, of.density), _mm512_set1_ps(0.39894228f), of.probability);
        write_half(d_gate + at, mask, _mm512_mul_ps(_mm512_mul_ps(dy, read_wide(h + at, mask)), slope));
    }
}

static void take_segments(void *given) {
    Work *work = given;
    for (;;) {
        const int64_t first = __atomic_fetch_add(&work->next, SEGMENT, __ATOMIC_RELAXED);
        if (first >= work->rows) break;
        for (int64_t row = first; row < least(first + SEGMENT, work->rows); row++) {
            if (work->dx)
                backward(work, row);
            else
                forward(work, row);
        }
    }
}

/* Forward into `out`, or backward into `dx` where there is one; 0. */
int run(Work *work, Parallel parallel, unsigned threads) {
    work->next = 0;
    in_parallel(take_segments, work, parallel, threads);
    return 0;
}
