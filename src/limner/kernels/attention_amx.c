/* Scaled dot-product attention and its gradients on a processor with AMX (Vaswani et al. 2017, equation 1).

   Products are of bf16 with sums in fp32, 16 x 16 at a time; softmax and everything between two products is fp32 and
   stays in the nearest cache. Nothing of size queries x keys is kept: the backward pass computes the weights again
   from the logarithms of their sums (Dao et al. 2022, "FlashAttention", appendix B).

   Heads of `width` numbers lie side by side in rows: (batch, tokens, heads * width). One job is one head of one batch,
   done by one thread from beginning to end, so results do not depend on the number of threads.

   A tile is 16 rows of 64 bytes. TDPBF16PS multiplies A, 16 rows of 32 bf16, with B, whose 16 rows hold pairs: row i
   has the numbers 2i and 2i + 1 of the contracted dimension side by side, for 16 columns. */

#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "avx512.h"

#define ROWS 16                   /* of a tile, and fp32 columns of one */
#define DEEP 32                   /* bf16 of the contracted dimension in a tile */
#define TILE (ROWS * DEEP)        /* bf16 of a tile */
#define LINE 64                   /* bytes of a cache line and of a tile's row */
#define REQUEST_PERMISSION 0x1023 /* ARCH_REQ_XCOMP_PERM */
#define TILE_DATA 18              /* XFEATURE_XTILEDATA */
#define NO_KEY -1e30f             /* score of a key that is only padding */
#define NEVER 1e4f                /* 2^-NEVER is 0: weight of a query that is only padding */

typedef struct {
    int64_t batch, heads, queries, keys, width;
    int64_t strides[4][2]; /* elements from batch to batch and from row to row: of query, key, value and dO */
    float scale;
} Shape;

typedef struct {
    Shape shape;
    const bf16 *query, *key, *value, *attended, *d_attended;
    bf16 *out, *d_query, *d_key, *d_value; /* contiguous */
    float *sums;                           /* (batch, heads, queries): log2 of the sum of weights, maximum included */
    int backward;
    int64_t next; /* the next job to be taken */
    int failed;   /* 1 where a thread had no memory */
} Work;

static inline int64_t up_to(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

static void configure(void) {
    struct __attribute__((aligned(64))) {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) config.bytes[tile] = LINE, config.rows[tile] = ROWS;
    _tile_loadconfig(&config);
}

/* Rows of `width` numbers as rows of `padded`, zeros at the end and below. */
static void pack_rows(bf16 *to, const bf16 *from, int64_t stride, int64_t rows, int64_t all, int64_t width,
                      int64_t padded) {
    memset(to, 0, (size_t)(all * padded) * sizeof(bf16));
    for (int64_t row = 0; row < rows; row++)
        memcpy(to + row * padded, from + row * stride, (size_t)width * sizeof(bf16));
}

/* B for products that contract over the width: for 16 rows and 32 numbers, pairs of numbers (16, rows, 2). */
static void pack_pairs_of_numbers(bf16 *to, const bf16 *rows, int64_t all, int64_t padded) {
    for (int64_t row = 0; row < all; row += ROWS)
        for (int64_t deep = 0; deep < padded; deep += DEEP, to += TILE) {
            uint32_t *words = (uint32_t *)to;
            for (int64_t at = 0; at < ROWS; at++) {
                const uint32_t *own = (const uint32_t *)(rows + (row + at) * padded + deep);
                for (int64_t pair = 0; pair < ROWS; pair++) words[pair * ROWS + at] = own[pair];
            }
        }
}

/* B for products that contract over the rows: for 32 rows and 16 numbers, pairs of rows (16, numbers, 2). */
static void pack_pairs_of_rows(bf16 *to, const bf16 *rows, int64_t all, int64_t padded, int64_t tiles) {
    for (int64_t row = 0; row < all; row += DEEP)
        for (int64_t tile = 0; tile < tiles; tile++)
            for (int64_t pair = 0; pair < ROWS; pair++, to += DEEP) {
                const bf16 *even = rows + (row + 2 * pair) * padded + tile * ROWS, *odd = even + padded;
                __m512i both = _mm512_or_si512(
                    _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)even)),
                    _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)odd)), 16));
                _mm512_storeu_si512(to, both);
            }
}

/* A for products with 16 numbers as rows, contracting over 32 rows: (numbers, 32 rows). */
static void pack_turned(bf16 *to, const bf16 *rows, int64_t all, int64_t padded, int64_t tiles) {
    for (int64_t row = 0; row < all; row += DEEP)
        for (int64_t tile = 0; tile < tiles; tile++, to += TILE)
            for (int64_t at = 0; at < DEEP; at++)
                for (int64_t number = 0; number < ROWS; number++)
                    to[number * DEEP + at] = rows[(row + at) * padded + tile * ROWS + number];
}

static void *part(char **free_from, int64_t bytes) {
    void *own = *free_from;
    *free_from += up_to(bytes, LINE);
    return own;
}

/* fp32 rows (rows, columns) as bf16 rows of `width` numbers, `stride` apart, times `factor`. */
static void store_rows(bf16 *to, int64_t stride, const float *from, int64_t columns, int64_t rows, int64_t width,
                       float factor) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t at = 0; at < width; at += ROWS) {
            __mmask16 mask = (__mmask16)((1u << least(ROWS, width - at)) - 1);
            __m512 own = _mm512_mul_ps(_mm512_loadu_ps(from + row * columns + at), _mm512_set1_ps(factor));
            write_half(to + row * stride + at, mask, own);
        }
}

/* Weights (16, keys) of 16 queries from their scores, in bf16; of each row the logarithm and inverse of its sum.
   Rows of both begin `pitch` times 4 bytes apart; `keys` is padded. */
static void softmax(bf16 *weights, const float *scores, int64_t keys, int64_t pitch, float scale, float *log_sums,
                    float *inverses) {
    const __m512 factor = _mm512_set1_ps(scale);
    for (int64_t row = 0; row < ROWS; row++, scores += pitch, weights += 2 * pitch) {
        __m512 most[2] = {_mm512_load_ps(scores), _mm512_load_ps(scores + ROWS)};
        for (int64_t at = DEEP; at < keys; at += DEEP) {
            most[0] = _mm512_max_ps(most[0], _mm512_load_ps(scores + at));
            most[1] = _mm512_max_ps(most[1], _mm512_load_ps(scores + at + ROWS));
        }
        const float highest = _mm512_reduce_max_ps(_mm512_max_ps(most[0], most[1])) * scale;
        const __m512 offset = _mm512_set1_ps(highest);
        __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        for (int64_t at = 0; at < keys; at += DEEP) {
            __m512 left = exp2_of(_mm512_fmsub_ps(_mm512_load_ps(scores + at), factor, offset));
            __m512 right = exp2_of(_mm512_fmsub_ps(_mm512_load_ps(scores + at + ROWS), factor, offset));
            sum[0] = _mm512_add_ps(sum[0], left);
            sum[1] = _mm512_add_ps(sum[1], right);
            _mm512_store_si512(weights + at, (__m512i)_mm512_cvtne2ps_pbh(right, left));
        }
        const float all = _mm512_reduce_add_ps(_mm512_add_ps(sum[0], sum[1]));
        log_sums[row] = highest + log2f(all);
        inverses[row] = 1.0f / all;
    }
}

static int64_t forward_bytes(const Shape *s) {
    const int64_t keys = up_to(s->keys, DEEP), queries = up_to(s->queries, ROWS), deep = up_to(s->width, DEEP);
    const int64_t rows = (queries + 2 * keys) * deep + keys * up_to(s->width, ROWS);
    return rows * 2 + ROWS * (keys + ROWS) * 8 + 2 * ROWS * deep * 4 + 16 * LINE;
}

static void forward_head(Work *work, int64_t batch, int64_t head, char *memory) {
    const Shape *s = &work->shape;
    const int64_t keys = up_to(s->keys, DEEP), queries = up_to(s->queries, ROWS), deep = up_to(s->width, DEEP);
    const int64_t tiles = up_to(s->width, ROWS) / ROWS, pitch = keys + ROWS, at_head = head * s->width;
    const float scale = s->scale * 1.44269504f; /* of base 2 */
    bf16 *q = part(&memory, queries * deep * 2), *rows = part(&memory, keys * deep * 2);
    bf16 *k = part(&memory, keys * deep * 2), *v = part(&memory, keys * tiles * ROWS * 2);
    float *scores = part(&memory, ROWS * pitch * 4);
    bf16 *weights = part(&memory, ROWS * pitch * 4);
    float *attended = part(&memory, ROWS * tiles * ROWS * 4);
    pack_rows(q, work->query + batch * s->strides[0][0] + at_head, s->strides[0][1], s->queries, queries, s->width,
              deep);
    pack_rows(rows, work->key + batch * s->strides[1][0] + at_head, s->strides[1][1], s->keys, keys, s->width, deep);
    pack_pairs_of_numbers(k, rows, keys, deep);
    pack_rows(rows, work->value + batch * s->strides[2][0] + at_head, s->strides[2][1], s->keys, keys, s->width, deep);
    pack_pairs_of_rows(v, rows, keys, deep, tiles);
    const int64_t row_stride = s->heads * s->width;
    bf16 *out = work->out + batch * s->queries * row_stride + at_head;
    float *sums = work->sums + (batch * s->heads + head) * s->queries;

    for (int64_t query = 0; query < queries; query += ROWS) {
        float logs[ROWS], inverses[ROWS];
        const int64_t count = least(ROWS, s->queries - query);
        for (int64_t key = 0; key < keys; key += DEEP) { /* scores (16, 32) */
            _tile_zero(0);
            _tile_zero(1);
            for (int64_t at = 0; at < deep; at += DEEP) {
                _tile_loadd(2, q + query * deep + at, deep * 2);
                _tile_loadd(3, k + key * deep + at * ROWS, LINE);
                _tile_loadd(4, k + (key + ROWS) * deep + at * ROWS, LINE);
                _tile_dpbf16ps(0, 2, 3);
                _tile_dpbf16ps(1, 2, 4);
            }
            _tile_stored(0, scores + key, pitch * 4);
            _tile_stored(1, scores + key + ROWS, pitch * 4);
        }
        for (int64_t row = 0; row < ROWS; row++)
            for (int64_t key = s->keys; key < keys; key++) scores[row * pitch + key] = NO_KEY;
        softmax(weights, scores, keys, pitch, scale, logs, inverses);
        for (int64_t tile = 0; tile < tiles; tile++) { /* attended (16, 16) */
            _tile_zero(0);
            for (int64_t key = 0; key < keys; key += DEEP) {
                _tile_loadd(2, weights + key, pitch * 4);
                _tile_loadd(3, v + (key / DEEP * tiles + tile) * TILE, LINE);
                _tile_dpbf16ps(0, 2, 3);
            }
            _tile_stored(0, attended + tile * ROWS, tiles * ROWS * 4);
        }
        for (int64_t row = 0; row < count; row++) {
            store_rows(out + (query + row) * row_stride, row_stride, attended + row * tiles * ROWS, tiles * ROWS, 1,
                       s->width, inverses[row]);
            sums[query + row] = logs[row];
        }
    }
}

static int64_t backward_bytes(const Shape *s) {
    const int64_t keys = up_to(s->keys, DEEP), queries = up_to(s->queries, DEEP), deep = up_to(s->width, DEEP);
    const int64_t numbers = up_to(s->width, ROWS);
    const int64_t halves = keys * (2 * deep + numbers) + queries * (3 * deep + 2 * numbers);
    return halves * 2 + keys * numbers * 8 + queries * 8 + DEEP * numbers * 4 + DEEP * DEEP * (8 + 6) + 32 * LINE;
}

/* Each query's sum of dO * O. */
static void deltas(float *to, const Work *work, int64_t batch, int64_t at_head) {
    const Shape *s = &work->shape;
    const bf16 *outer = work->d_attended + batch * s->strides[3][0] + at_head;
    const bf16 *own = work->attended + batch * s->queries * s->heads * s->width + at_head;
    for (int64_t query = 0; query < s->queries; query++) {
        float sum = 0;
        for (int64_t at = 0; at < s->width; at++)
            sum += wide(outer[query * s->strides[3][1] + at]) * wide(own[query * s->heads * s->width + at]);
        to[query] = sum;
    }
}

/* to (32 keys, 32 queries) = rows (32, deep) times columns, which are two tiles for each 32. */
static inline void products(float *to, const bf16 *rows, const bf16 *columns, int64_t deep) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t at = 0; at < deep; at += DEEP) {
        _tile_loadd(4, rows + at, deep * 2);
        _tile_loadd(5, rows + ROWS * deep + at, deep * 2);
        _tile_loadd(6, columns + at * ROWS, LINE);
        _tile_loadd(7, columns + ROWS * deep + at * ROWS, LINE);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, to, DEEP * 4);
    _tile_stored(1, to + ROWS, DEEP * 4);
    _tile_stored(2, to + ROWS * DEEP, DEEP * 4);
    _tile_stored(3, to + ROWS * DEEP + ROWS, DEEP * 4);
}

/* Weights and the scores' gradients of 32 keys (rows) and 32 queries, in bf16, and the latter as pairs of keys. */
static inline void weigh(bf16 *weights, bf16 *d_scores, bf16 *pairs, const float *scores, const float *d_weights,
                         const float *log_sums, const float *delta, float scale) {
    static const uint16_t order[DEEP] __attribute__((aligned(64))) = {
        0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i interleaved = _mm512_load_si512(order);
    const __m512 factor = _mm512_set1_ps(scale);
    const __m512 sums[2] = {_mm512_loadu_ps(log_sums), _mm512_loadu_ps(log_sums + ROWS)};
    const __m512 taken[2] = {_mm512_loadu_ps(delta), _mm512_loadu_ps(delta + ROWS)};
    for (int64_t key = 0; key < DEEP; key += 2) {
        __m512 weight[2][2], d_score[2][2];
        for (int row = 0; row < 2; row++)
            for (int half = 0; half < 2; half++) {
                const int64_t at = (key + row) * DEEP + half * ROWS;
                weight[row][half] = exp2_of(_mm512_fmsub_ps(_mm512_load_ps(scores + at), factor, sums[half]));
                d_score[row][half] =
                    _mm512_mul_ps(weight[row][half], _mm512_sub_ps(_mm512_load_ps(d_weights + at), taken[half]));
            }
        for (int row = 0; row < 2; row++) {
            const int64_t at = (key + row) * DEEP;
            _mm512_store_si512(weights + at, (__m512i)_mm512_cvtne2ps_pbh(weight[row][1], weight[row][0]));
            _mm512_store_si512(d_scores + at, (__m512i)_mm512_cvtne2ps_pbh(d_score[row][1], d_score[row][0]));
        }
        for (int half = 0; half < 2; half++) {
            __m512i both = (__m512i)_mm512_cvtne2ps_pbh(d_score[1][half], d_score[0][half]);
            _mm512_store_si512(pairs + half * TILE + key / 2 * DEEP, _mm512_permutexvar_epi16(interleaved, both));
        }
    }
}

/* to (32, 16) += rows (32, 32) times pairs (32, 16). */
static inline void add_product(float *to, int64_t columns, const bf16 *rows, const bf16 *pairs) {
    _tile_loadd(0, to, columns * 4);
    _tile_loadd(1, to + ROWS * columns, columns * 4);
    _tile_loadd(4, rows, LINE);
    _tile_loadd(5, rows + TILE, LINE);
    _tile_loadd(6, pairs, LINE);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 5, 6);
    _tile_stored(0, to, columns * 4);
    _tile_stored(1, to + ROWS * columns, columns * 4);
}

/* to (16, 32) += rows (16, 32) times two tiles of pairs (32, 16). */
static inline void add_turned(float *to, const bf16 *rows, const bf16 *pairs) {
    _tile_loadd(0, to, DEEP * 4);
    _tile_loadd(1, to + ROWS, DEEP * 4);
    _tile_loadd(4, rows, LINE);
    _tile_loadd(5, pairs, LINE);
    _tile_loadd(6, pairs + TILE, LINE);
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 6);
    _tile_stored(0, to, DEEP * 4);
    _tile_stored(1, to + ROWS, DEEP * 4);
}

static void backward_head(Work *work, int64_t batch, int64_t head, char *memory) {
    const Shape *s = &work->shape;
    const int64_t keys = up_to(s->keys, DEEP), queries = up_to(s->queries, DEEP), deep = up_to(s->width, DEEP);
    const int64_t tiles = up_to(s->width, ROWS) / ROWS, numbers = tiles * ROWS, at_head = head * s->width;
    const float scale = s->scale * 1.44269504f;
    bf16 *rows = part(&memory, queries * deep * 2), *k = part(&memory, keys * deep * 2);
    bf16 *v = part(&memory, keys * deep * 2), *k_turned = part(&memory, keys * numbers * 2);
    bf16 *q_columns = part(&memory, queries * deep * 2), *o_columns = part(&memory, queries * deep * 2);
    bf16 *q_pairs = part(&memory, queries * numbers * 2), *o_pairs = part(&memory, queries * numbers * 2);
    float *d_key = part(&memory, keys * numbers * 4), *d_value = part(&memory, keys * numbers * 4);
    float *log_sums = part(&memory, queries * 4), *delta = part(&memory, queries * 4);
    float *d_query = part(&memory, DEEP * numbers * 4);
    float *scores = part(&memory, DEEP * DEEP * 4), *d_weights = part(&memory, DEEP * DEEP * 4);
    bf16 *weights = part(&memory, DEEP * DEEP * 2), *d_scores = part(&memory, DEEP * DEEP * 2);
    bf16 *pairs = part(&memory, DEEP * DEEP * 2);

    pack_rows(k, work->key + batch * s->strides[1][0] + at_head, s->strides[1][1], s->keys, keys, s->width, deep);
    pack_rows(v, work->value + batch * s->strides[2][0] + at_head, s->strides[2][1], s->keys, keys, s->width, deep);
    pack_turned(k_turned, k, keys, deep, tiles);
    pack_rows(rows, work->query + batch * s->strides[0][0] + at_head, s->strides[0][1], s->queries, queries, s->width,
              deep);
    pack_pairs_of_numbers(q_columns, rows, queries, deep);
    pack_pairs_of_rows(q_pairs, rows, queries, deep, tiles);
    pack_rows(rows, work->d_attended + batch * s->strides[3][0] + at_head, s->strides[3][1], s->queries, queries,
              s->width, deep);
    pack_pairs_of_numbers(o_columns, rows, queries, deep);
    pack_pairs_of_rows(o_pairs, rows, queries, deep, tiles);
    memset(d_key, 0, (size_t)(keys * numbers * 4));
    memset(d_value, 0, (size_t)(keys * numbers * 4));
    for (int64_t query = s->queries; query < queries; query++) log_sums[query] = NEVER, delta[query] = 0;
    memcpy(log_sums, work->sums + (batch * s->heads + head) * s->queries, (size_t)s->queries * 4);
    deltas(delta, work, batch, at_head);

    const int64_t row_stride = s->heads * s->width;
    bf16 *to_query = work->d_query + batch * s->queries * row_stride + at_head;
    for (int64_t query = 0; query < queries; query += DEEP) {
        memset(d_query, 0, (size_t)(DEEP * numbers * 4));
        for (int64_t key = 0; key < keys; key += DEEP) {
            products(scores, k + key * deep, q_columns + query * deep, deep);
            products(d_weights, v + key * deep, o_columns + query * deep, deep);
            weigh(weights, d_scores, pairs, scores, d_weights, log_sums + query, delta + query, scale);
            for (int64_t tile = 0; tile < tiles; tile++) {
                const int64_t of_query = (query / DEEP * tiles + tile) * TILE;
                add_product(d_value + key * numbers + tile * ROWS, numbers, weights, o_pairs + of_query);
                add_product(d_key + key * numbers + tile * ROWS, numbers, d_scores, q_pairs + of_query);
                add_turned(d_query + tile * ROWS * DEEP, k_turned + (key / DEEP * tiles + tile) * TILE, pairs);
            }
        }
        for (int64_t row = 0; row < least(DEEP, s->queries - query); row++) /* (numbers, 32) turned */
            for (int64_t at = 0; at < s->width; at++) {
                __m128 own = _mm_set_ss(d_query[at * DEEP + row] * s->scale);
                to_query[(query + row) * row_stride + at] = (bf16)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(own), 0);
            }
    }
    const int64_t own = batch * s->keys * row_stride + at_head;
    store_rows(work->d_key + own, row_stride, d_key, numbers, s->keys, s->width, s->scale);
    store_rows(work->d_value + own, row_stride, d_value, numbers, s->keys, s->width, 1.0f);
}

static void take_jobs(void *given) {
    Work *work = given;
    const Shape *s = &work->shape;
    char *memory = aligned_alloc(LINE, (size_t)up_to(work->backward ? backward_bytes(s) : forward_bytes(s), LINE));
    if (!memory) {
        __atomic_store_n(&work->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    struct __attribute__((aligned(64))) {
        uint8_t bytes[64];
    } before;
    _tile_storeconfig(&before); /* others' tiles in this thread keep their shapes */
    configure();
    for (;;) {
        const int64_t job = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED);
        if (job >= s->batch * s->heads) break;
        (work->backward ? backward_head : forward_head)(work, job / s->heads, job % s->heads, memory);
    }
    _tile_release();
    if (before.bytes[0]) _tile_loadconfig(&before);
    free(memory);
}

/* Whether the system lets this process use tiles. */
int allowed(void) { return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0; }

/* Do all jobs on `threads` threads; 0, or 1 where there was no memory. */
int run(Work *work, Parallel parallel, unsigned threads) {
    work->next = 0;
    work->failed = 0;
    in_parallel(take_jobs, work, parallel, threads);
    return work->failed;
}
