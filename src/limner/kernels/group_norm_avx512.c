/* Group normalisation, with a shift before and SiLU after it, and its gradients (Wu and He 2018, equation 7).

   Pictures lie channels-last: (batch, positions, channels), channels a multiple of 16 and of the groups. What is read
   is fp32 or bf16 and its gradient the same; what is written, and its gradient, is bf16. One job is one picture, done
   by one thread from beginning to end, so results do not depend on the number of threads. */

#include <math.h>
#include <stdlib.h>

#include "avx512.h"

#define LANES 16
#define EVERY 0xFFFF

typedef struct {
    int64_t batch, positions, channels, groups, next;
    float epsilon;
    int silu, half, failed;       /* half: x and dx are bf16 */
    const void *x;                /* (batch, positions, channels) */
    const float *weight, *bias;   /* (channels) */
    const float *shift;           /* (batch, channels), or none */
    float *statistics;            /* (batch, 2, groups): mean, and one over the deviation */
    bf16 *y;                      /* (batch, positions, channels) */
    const bf16 *dy;               /* the same; there is a backward pass where it is not null */
    void *dx;                     /* as x */
    float *d_weight, *d_bias, *d_shift; /* (batch, channels) */
} Work;

/* What all positions of one channel have in common, 16 channels at a time: z = (x - mean) inverse, y = z weight + bias. */
typedef struct {
    float *mean, *inverse, *sum, *of_z, *of_gradient, *both;
} Scratch;

static inline __m512 read(const Work *work, int64_t picture, int64_t position, int64_t channel) {
    const int64_t at = (picture * work->positions + position) * work->channels + channel;
    return work->half ? read_wide((const bf16 *)work->x + at, EVERY) : _mm512_loadu_ps((const float *)work->x + at);
}

/* Each group's mean of `of` (channels), which are sums over all positions, for every channel of it. */
static void share(const Work *work, float *of) {
    const int64_t together = work->channels / work->groups;
    for (int64_t first = 0; first < work->channels; first += together) {
        float sum = 0;
        for (int64_t at = 0; at < together; at++) sum += of[first + at];
        sum /= (float)(together * work->positions);
        for (int64_t at = 0; at < together; at++) of[first + at] = sum;
    }
}

/* Sums over all positions: of x, or of (x - mean)^2 where there is a mean. */
static void add_up(const Work *work, int64_t picture, float *sums, const float *mean) {
    for (int64_t channel = 0; channel < work->channels; channel += LANES) {
        const __m512 offset = mean ? _mm512_loadu_ps(mean + channel) : _mm512_setzero_ps();
        __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
        for (int64_t position = 0; position < work->positions; position += 4)
            for (int64_t at = 0; at < least(4, work->positions - position); at++) {
                const __m512 own = _mm512_sub_ps(read(work, picture, position + at, channel), offset);
                sum[at] = mean ? _mm512_fmadd_ps(own, own, sum[at]) : _mm512_add_ps(own, sum[at]);
            }
        _mm512_storeu_ps(sums + channel, _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
    }
}

/* 1 / (1 + e^-y). */
static inline __m512 sigmoid(__m512 y) {
    const __m512 one = _mm512_set1_ps(1);
    return _mm512_rcp14_ps(_mm512_add_ps(one, exp2_of(_mm512_mul_ps(y, _mm512_set1_ps(-1.44269504f)))));
}

/* Mean and inverse of every channel, for x as stored: the shift is taken off the mean. */
static void spread(const Work *work, int64_t picture, const Scratch *own) {
    const int64_t together = work->channels / work->groups;
    const float *statistics = work->statistics + picture * 2 * work->groups;
    for (int64_t channel = 0; channel < work->channels; channel++) {
        const float shift = work->shift ? work->shift[picture * work->channels + channel] : 0;
        own->mean[channel] = statistics[channel / together] - shift;
        own->inverse[channel] = statistics[work->groups + channel / together];
    }
}

static void forward(const Work *work, int64_t picture, const Scratch *own) {
    const int64_t channels = work->channels, together = channels / work->groups;
    const float *shift = work->shift ? work->shift + picture * channels : NULL;
    float *statistics = work->statistics + picture * 2 * work->groups;
    add_up(work, picture, own->sum, NULL);
    if (shift)
        for (int64_t at = 0; at < channels; at++) own->sum[at] += shift[at] * (float)work->positions;
    share(work, own->sum);
    for (int64_t group = 0; group < work->groups; group++) statistics[group] = own->sum[group * together];
    for (int64_t at = 0; at < channels; at++) own->mean[at] = own->sum[at] - (shift ? shift[at] : 0);
    add_up(work, picture, own->sum, own->mean);
    share(work, own->sum);
    for (int64_t group = 0; group < work->groups; group++)
        statistics[work->groups + group] = 1.0f / sqrtf(own->sum[group * together] + work->epsilon);
    spread(work, picture, own);
    for (int64_t channel = 0; channel < channels; channel += LANES) {
        const __m512 factor =
            _mm512_mul_ps(_mm512_loadu_ps(work->weight + channel), _mm512_loadu_ps(own->inverse + channel));
        const __m512 mean = _mm512_loadu_ps(own->mean + channel), bias = _mm512_loadu_ps(work->bias + channel);
        bf16 *to = work->y + picture * work->positions * channels + channel;
        for (int64_t position = 0; position < work->positions; position++, to += channels) {
            const __m512 centred = _mm512_sub_ps(read(work, picture, position, channel), mean);
            const __m512 y = _mm512_fmadd_ps(centred, factor, bias);
            write_half(to, EVERY, work->silu ? _mm512_mul_ps(y, sigmoid(y)) : y);
        }
    }
}

/* The gradient of y before SiLU, from that after it. */
static inline __m512 before_silu(__m512 y, __m512 dy) {
    const __m512 one = _mm512_set1_ps(1), open = sigmoid(y);
    return _mm512_mul_ps(_mm512_mul_ps(dy, open), _mm512_fmadd_ps(y, _mm512_sub_ps(one, open), one));
}

typedef struct {
    __m512 mean, inverse, weight, bias;
} Channel;

static inline Channel channel_of(const Work *work, const Scratch *own, int64_t channel) {
    return (Channel){_mm512_loadu_ps(own->mean + channel), _mm512_loadu_ps(own->inverse + channel),
                     _mm512_loadu_ps(work->weight + channel), _mm512_loadu_ps(work->bias + channel)};
}

/* z and the gradient of y at one position. */
static inline __m512 gradient(const Work *work, int64_t picture, int64_t position, int64_t channel, Channel of,
                              __m512 *z) {
    const int64_t at = (picture * work->positions + position) * work->channels + channel;
    *z = _mm512_mul_ps(_mm512_sub_ps(read(work, picture, position, channel), of.mean), of.inverse);
    const __m512 dy = read_wide(work->dy + at, EVERY);
    return work->silu ? before_silu(_mm512_fmadd_ps(*z, of.weight, of.bias), dy) : dy;
}

static void backward(const Work *work, int64_t picture, const Scratch *own) {
    const int64_t channels = work->channels, row = picture * channels;
    spread(work, picture, own);
    for (int64_t channel = 0; channel < channels; channel += LANES) {
        const Channel of = channel_of(work, own, channel);
        __m512 sum = _mm512_setzero_ps(), product = sum, of_z = sum, z;
        for (int64_t position = 0; position < work->positions; position++) {
            const __m512 dy = gradient(work, picture, position, channel, of, &z);
            sum = _mm512_add_ps(sum, dy);
            product = _mm512_fmadd_ps(dy, z, product);
            of_z = _mm512_add_ps(of_z, z);
        }
        _mm512_storeu_ps(work->d_bias + row + channel, sum);
        _mm512_storeu_ps(work->d_weight + row + channel, product);
        _mm512_storeu_ps(own->of_z + channel, of_z);
        _mm512_storeu_ps(own->of_gradient + channel, _mm512_mul_ps(sum, of.weight));
        _mm512_storeu_ps(own->both + channel, _mm512_mul_ps(product, of.weight));
    }
    memcpy(own->sum, own->of_gradient, (size_t)channels * sizeof(float));
    share(work, own->of_gradient);
    share(work, own->both);
    for (int64_t at = 0; at < channels; at++)
        work->d_shift[row + at] = own->inverse[at] * (own->sum[at] - (float)work->positions * own->of_gradient[at] -
                                                      own->both[at] * own->of_z[at]);
    for (int64_t channel = 0; channel < channels; channel += LANES) {
        const Channel of = channel_of(work, own, channel);
        const __m512 taken = _mm512_loadu_ps(own->of_gradient + channel), along = _mm512_loadu_ps(own->both + channel);
        for (int64_t position = 0; position < work->positions; position++) {
            __m512 z;
            const __m512 dy = gradient(work, picture, position, channel, of, &z);
            __m512 dx = _mm512_fmsub_ps(dy, of.weight, taken);
            dx = _mm512_mul_ps(_mm512_fnmadd_ps(z, along, dx), of.inverse);
            const int64_t at = (picture * work->positions + position) * channels + channel;
            if (work->half)
                write_half((bf16 *)work->dx + at, EVERY, dx);
            else
                _mm512_storeu_ps((float *)work->dx + at, dx);
        }
    }
}

static void take_pictures(void *given) {
    Work *work = given;
    const int64_t channels = work->channels;
    float *memory = malloc((size_t)(6 * channels) * sizeof(float));
    if (!memory) {
        __atomic_store_n(&work->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    const Scratch own = {memory,
                         memory + channels,
                         memory + 2 * channels,
                         memory + 3 * channels,
                         memory + 4 * channels,
                         memory + 5 * channels};
    for (;;) {
        const int64_t picture = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED);
        if (picture >= work->batch) break;
        (work->dy ? backward : forward)(work, picture, &own);
    }
    free(memory);
}

/* Forward, or backward where there is a `dy`; 0, or 1 where there was no memory. */
int run(Work *work, Parallel parallel, unsigned threads) {
    work->next = 0;
    work->failed = 0;
    in_parallel(take_pictures, work, parallel, threads);
    return work->failed;
}
