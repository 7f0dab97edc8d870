// Chooses the elementwise kernels for the machine that runs.
#include "cpu/map.h"

void us_map_run_base(const us_program *program, us_map_env *env);
#if defined(__x86_64__)
void us_map_run_avx2(const us_program *program, us_map_env *env);
void us_map_run_avx512(const us_program *program, us_map_env *env);
#endif

us_map_fn us_map_select(const char **name)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
        *name = "avx512";
        return us_map_run_avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        *name = "avx2";
        return us_map_run_avx2;
    }
#endif
    *name = "portable";
    return us_map_run_base;
}

int us_map_block(const us_plan *plan)
{
    int block = US_BLOCK;
    for (int i = 0; i < plan->n_programs; i++) {
        block = plan->programs[i].c > block ? plan->programs[i].c : block;
    }
    return (block + 15) / 16 * 16;
}
