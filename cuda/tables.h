// A plan as tables for the device, and parameters between the published layout and the device's.
#ifndef US_CUDA_TABLES_H
#define US_CUDA_TABLES_H

#include "plan/plan.h"
#include "program.h"
#include "steps.h"

typedef struct us_cu_tables {
    const us_allocator *a;
    us_cu_op *ops;
    us_cu_finish *finishes;
    us_cu_program *programs;        // [plan->n_programs]
    us_cu_param *params;            // [graph->n_params]
    us_cu_bn_running *bns;          // [plan->n_bnorms]
    us_cu_mask *masks;              // [plan->n_masks]
    us_cu_loss loss;                // training
    int n_ops, n_finishes, n_params;
    int64_t n_floats;               // parameters in device layout, gaps included
    int64_t n_moments, n_partials;  // doubles
} us_cu_tables;

// processors, shared_bytes: of the device the programs are laid out for; compiled: whether they become kernels.
usplit_status us_cu_tables_make(us_cu_tables *tables, const us_allocator *a, const us_plan *plan, int processors,
                                int64_t shared_bytes, int compiled);
void us_cu_tables_free(us_cu_tables *tables);

// Flat published array <-> device layout [n_floats]; gaps become 0.
void us_cu_pack(const us_cu_tables *tables, const float *published, float *device);
void us_cu_unpack(const us_cu_tables *tables, const float *device, float *published);

#endif
