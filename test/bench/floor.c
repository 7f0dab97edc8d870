// Measures what this machine can do at most, as the floor that the benchmark compares times with:
//   fma    multiply-adds between registers only: the arithmetic peak, which no convolution reaches
//   conv   a 3 x 3 convolution, 64 to 64 channels on 64 x 64 pixels, channels last, by a small kernel of our
//          own blocked for registers; a direct convolution can be expected to come near it
//   copy   memory bandwidth of a large copy (bytes read plus bytes written)
// One thread and all of them; the best of several short runs, as other programs only make a run slower.
// Compiled with -march=native; prints one line of JSON. A multiply-add counts two operations in GFLOP/s.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 6, COLUMNS = 4 };    // 24 accumulators of 32 registers
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 6, COLUMNS = 2 };     // 12 of 16
#else
enum { LANES = 4, ROWS = 6, COLUMNS = 2 };
#endif

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef float loose_vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

enum { SIDE = 64, CHANNELS = 64, TAPS = 9, BORDERED = SIDE + 2 };
enum { RUNS = 40, MAX_THREADS = 256 };

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Independent chains hide the latency of the multiply-add; 16 suffice for two units of five cycles.
enum { CHAINS = LANES == 16 ? 24 : 12 };

static double fma_run(float *sink)
{
    enum { STEPS = 1000000 };
    vec sum[CHAINS];
    volatile float scale = 1.0f - 1e-7f, offset = 1e-9f;    // unknown to the compiler
    vec a = scale - (vec){0}, b = offset - (vec){0};
#pragma GCC unroll 24
    for (int i = 0; i < CHAINS; i++) {
        sum[i] = b * (float)i;
    }
    for (int step = 0; step < STEPS; step++) {
#pragma GCC unroll 24
        for (int i = 0; i < CHAINS; i++) {
            sum[i] = sum[i] * a + b;
        }
    }
#pragma GCC unroll 24
    for (int i = 1; i < CHAINS; i++) {
        sum[0] += sum[i];
    }
    *sink += sum[0][0];
    return 2.0 * CHAINS * LANES * STEPS;
}

// ROWS neighbouring pixels times COLUMNS vectors of output channels stay in registers over all taps and
// input channels. src: [BORDERED, BORDERED, CHANNELS], weights: [TAPS, CHANNELS in, CHANNELS out], dst:
// [SIDE, SIDE, CHANNELS]. The last block of a row starts earlier and computes some pixels again.
static void conv_block(const float *src, const float *weights, float *dst)
{
    vec sum[ROWS][COLUMNS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
#pragma GCC unroll 4
        for (int j = 0; j < COLUMNS; j++) {
            sum[r][j] = (vec){0};
        }
    }
    for (int tap = 0; tap < TAPS; tap++) {
        const float *x = src + ((tap / 3) * BORDERED + tap % 3) * CHANNELS;
        const float *w = weights + tap * CHANNELS * CHANNELS;
        for (int c = 0; c < CHANNELS; c++, w += CHANNELS) {
            vec wj[COLUMNS];
#pragma GCC unroll 4
            for (int j = 0; j < COLUMNS; j++) {
                wj[j] = *(const loose_vec *)(w + j * LANES);
            }
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) {
                vec pixel = x[r * CHANNELS + c] - (vec){0};
#pragma GCC unroll 4
                for (int j = 0; j < COLUMNS; j++) {
                    sum[r][j] += wj[j] * pixel;
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
#pragma GCC unroll 4
        for (int j = 0; j < COLUMNS; j++) {
            *(loose_vec *)(dst + r * CHANNELS + j * LANES) = sum[r][j];
        }
    }
}

static double conv_run(float *memory)
{
    float *src = memory, *weights = src + BORDERED * BORDERED * CHANNELS;
    float *dst = weights + TAPS * CHANNELS * CHANNELS;
    double done = 0;
    for (int y = 0; y < SIDE; y++) {
        for (int x0 = 0; x0 < SIDE; x0 += ROWS) {
            int x = x0 + ROWS <= SIDE ? x0 : SIDE - ROWS;
            for (int o = 0; o < CHANNELS; o += COLUMNS * LANES) {
                conv_block(src + (y * BORDERED + x) * CHANNELS, weights + o, dst + (y * SIDE + x) * CHANNELS + o);
                done += 2.0 * ROWS * COLUMNS * LANES * TAPS * CHANNELS;
            }
        }
    }
    return done;
}

enum { COPY_BYTES = 64 << 20 };

enum work { FMA, CONV, COPY };

struct thread {
    pthread_t id;
    pthread_barrier_t *barrier;
    enum work work;
    float *memory;
    double done[RUNS], begin[RUNS], end[RUNS];
};

static size_t memory_of(enum work work)
{
    size_t conv = (size_t)(BORDERED * BORDERED + SIDE * SIDE + TAPS * CHANNELS) * CHANNELS * sizeof(float);
    return work == COPY ? 2 * (size_t)COPY_BYTES : work == CONV ? conv : 64;
}

static void *thread_main(void *user)
{
    struct thread *t = user;
    for (int run = 0; run < RUNS; run++) {
        pthread_barrier_wait(t->barrier);
        t->begin[run] = seconds();
        t->done[run] = 0;
        for (int repeat = 0; repeat < (t->work == CONV ? 6 : 1); repeat++) {
            if (t->work == FMA) {
                t->done[run] += fma_run(t->memory);
            } else if (t->work == CONV) {
                t->done[run] += conv_run(t->memory);
            } else {
                memcpy((char *)t->memory + COPY_BYTES, t->memory, COPY_BYTES);
                t->done[run] += 2.0 * COPY_BYTES;
            }
        }
        t->end[run] = seconds();
    }
    return NULL;
}

// Best of RUNS: work done by all threads over the time from the first begin to the last end, in 1e9 per s.
static double measure(enum work work, int n_threads)
{
    static struct thread threads[MAX_THREADS];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)n_threads);
    for (int i = 0; i < n_threads; i++) {
        struct thread *t = &threads[i];
        t->barrier = &barrier;
        t->work = work;
        if (posix_memalign((void **)&t->memory, 64, memory_of(work))) {
            fprintf(stderr, "floor: no memory\n");
            exit(1);
        }
        memset(t->memory, 0, memory_of(work));
        pthread_create(&t->id, NULL, thread_main, t);
    }
    for (int i = 0; i < n_threads; i++) {
        pthread_join(threads[i].id, NULL);
    }
    double best = 0;
    for (int run = 0; run < RUNS; run++) {
        double begin = threads[0].begin[run], end = threads[0].end[run], done = 0;
        for (int i = 0; i < n_threads; i++) {
            begin = threads[i].begin[run] < begin ? threads[i].begin[run] : begin;
            end = threads[i].end[run] > end ? threads[i].end[run] : end;
            done += threads[i].done[run];
        }
        double rate = 1e-9 * done / (end - begin);
        best = rate > best ? rate : best;
    }
    for (int i = 0; i < n_threads; i++) {
        free(threads[i].memory);
    }
    pthread_barrier_destroy(&barrier);
    return best;
}

// The processor's own name; quotes and control characters left out.
static void cpu_name(char *name, size_t size)
{
    snprintf(name, size, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[512];
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (!strncmp(line, "model name", 10) && colon) {
            size_t n = 0;
            for (char *c = colon + 2; *c && n + 1 < size; c++) {
                if (*c >= ' ' && *c != '"' && *c != '\\') {
                    name[n++] = *c;
                }
            }
            name[n] = 0;
            break;
        }
    }
    if (file) {
        fclose(file);
    }
}

int main(int argc, char **argv)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    int n = argc > 1 ? (int)strtol(argv[1], NULL, 10) : (int)online;
    if (n < 1 || n > MAX_THREADS) {
        fprintf(stderr, "usage: floor [THREADS], 1 to %d\n", (int)MAX_THREADS);
        return 2;
    }
    char name[128];
    cpu_name(name, sizeof name);
    printf("{\"cpu\": \"%s\", \"threads\": %d, \"vector_bytes\": %d, ", name, n, LANES * 4);
    printf("\"fma_gflops_1\": %.1f, \"fma_gflops\": %.1f, ", measure(FMA, 1), measure(FMA, n));
    printf("\"conv_gflops_1\": %.1f, \"conv_gflops\": %.1f, ", measure(CONV, 1), measure(CONV, n));
    printf("\"copy_gb_per_s_1\": %.1f, \"copy_gb_per_s\": %.1f}\n", measure(COPY, 1), measure(COPY, n));
    return 0;
}
