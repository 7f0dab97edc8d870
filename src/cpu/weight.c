// Chooses the weight-gradient kernel for the machine that runs, and unpacks its result.
#include "cpu/weight.h"

#include <string.h>

void us_weight_run_base(const us_weight_shape *s, const float *x, const float *g, float *partial, float *scratch);
#if defined(__x86_64__)
void us_weight_run_avx2(const us_weight_shape *s, const float *x, const float *g, float *partial, float *scratch);
void us_weight_run_avx512(const us_weight_shape *s, const float *x, const float *g, float *partial, float *scratch);
#endif

us_weight_fn us_weight_select(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
        return us_weight_run_avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        return us_weight_run_avx2;
    }
#endif
    return us_weight_run_base;
}

void us_weight_unpack(const us_weight_shape *s, const float *partial, int adds, float *weights, float *bias)
{
    int groups = (s->ci + 3) / 4, taps = s->k * s->k;
    for (int o = 0; o < s->co; o++) {
        for (int c = 0; c < s->ci; c++) {
            const float *src = partial + (((int64_t)(o / 16) * groups + c / 4) * taps) * 64 + c % 4 * 16 + o % 16;
            for (int t = 0; t < taps; t++) {
                float *w = &weights[((int64_t)o * s->ci + c) * taps + t];
                *w = src[64 * t] + (adds ? *w : 0);
            }
        }
    }
    for (int o = 0; bias && o < s->co; o++) {
        bias[o] = partial[us_weight_floats(s) + o] + (adds ? bias[o] : 0);
    }
}
