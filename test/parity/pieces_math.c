// Groups explin, kl, adamax and plateau of pieces.h5 against the float arithmetic of src/kernels, the
// optimiser of the CPU backend and the schedule.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "kernels/elem.h"
#include "parity/fixture.h"
#include "parity/pieces_more.h"
#include "train/schedule.h"

typedef struct worst_of {
    double error;
    int compared;
} worst_of;

static void see(worst_of *w, double ours, double theirs, double scale)
{
    double e = fabs(ours - theirs) / scale;
    w->error = e > w->error || e != e ? e : w->error;
    w->compared++;
}

static int tell(us_parity_report_fn report, void *user, const char *group, const worst_of *w, double tolerance)
{
    int ok = w->compared > 0 && w->error <= tolerance;
    report(group, w->error, tolerance, ok, user);
    return !ok;
}

static float *column(const fixture *f, const char *path, int64_t *n)
{
    int n_dims;
    int64_t d[8];
    float *x = fixture_read(f, path, &n_dims, d);
    *n = 1;
    for (int i = 0; x && i < n_dims; i++) {
        *n *= d[i];
    }
    return x;
}

static double top(const float *x, int64_t n)
{
    double m = 0;
    for (int64_t i = 0; i < n; i++) {
        m = fabs((double)x[i]) > m ? fabs((double)x[i]) : m;
    }
    return m;
}

// sigma and its slope; relative to each value, since they span decades.
static int explin(const fixture *f, us_parity_report_fn report, void *user)
{
    int64_t n, m;
    worst_of w = {0};
    float *x = column(f, "explin/x", &n), *std = column(f, "explin/std", &m), *slope = column(f, "explin/d_std_dx", &m);
    if (!x || !std || !slope || m != n) {
        return -1;
    }
    for (int64_t i = 0; i < n; i++) {
        float s = us_sigma(x[i], INFINITY);
        see(&w, s, std[i], std[i]);
        see(&w, us_sigma_grad(1, x[i], s, INFINITY), slope[i], fabs((double)slope[i]) + 1e-30);
    }
    free(x);
    free(std);
    free(slope);
    return tell(report, user, "explin", &w, 1e-6);
}

static int kl(const fixture *f, us_parity_report_fn report, void *user)
{
    enum { Q_MU, Q_R, P_MU, P_R, EPS, Z, KL, DQ_MU, DQ_R, DP_MU, DP_R, COLUMNS };
    static const char *const names[COLUMNS] = {
        "kl/q_mu", "kl/q_raw_logvar", "kl/p_mu", "kl/p_raw_logvar", "kl/eps", "kl/z", "kl/kl", "kl/grad/q_mu",
        "kl/grad/q_raw_logvar", "kl/grad/p_mu", "kl/grad/p_raw_logvar"};
    float *c[COLUMNS];
    int64_t n = 0;
    worst_of value = {0}, slope = {0};
    for (int i = 0; i < COLUMNS; i++) {
        c[i] = column(f, names[i], &n);
        if (!c[i]) {
            return -1;
        }
    }
    for (int64_t i = 0; i < n; i++) {
        float sq = us_sigma(c[Q_R][i], 20), sp = us_sigma(c[P_R][i], 20), eps = c[EPS][i];
        float z = c[Q_MU][i] + sq * eps, dz = us_kl_dz(z, c[P_MU][i], sp, 1);
        float k = us_kl(z, c[P_MU][i], sp, sq, eps);
        see(&value, z, c[Z][i], 1 + fabs((double)c[Z][i]));
        see(&value, k, c[KL][i], 1 + fabs((double)c[KL][i]));
        see(&slope, dz, c[DQ_MU][i], top(c[DQ_MU], n));
        see(&slope, us_sigma_grad(us_kl_dsq(dz, eps, sq, 1), c[Q_R][i], sq, 20), c[DQ_R][i], top(c[DQ_R], n));
        see(&slope, -dz, c[DP_MU][i], top(c[DP_MU], n));
        see(&slope, us_sigma_grad(us_kl_dsp(z, c[P_MU][i], sp, 1), c[P_R][i], sp, 20), c[DP_R][i], top(c[DP_R], n));
    }
    for (int i = 0; i < COLUMNS; i++) {
        free(c[i]);
    }
    return tell(report, user, "kl", &value, 1e-5) | tell(report, user, "kl/grad", &slope, 1e-4);
}

// The backend's optimiser wants a plan: the smallest network lends its first large weight array.
static int adamax(const fixture *f, us_parity_report_fn report, void *user)
{
    int64_t n, all;
    float *start = column(f, "adamax/start", &n), *grads = column(f, "adamax/grads", &all);
    float *after = column(f, "adamax/params", &all);
    usplit_context *context = NULL;
    us_graph *g = NULL;
    us_plan *plan = NULL;
    us_exec *exec = NULL;
    us_net_config config;
    usplit_model_options o;
    worst_of w = {0};
    usplit_model_options_init(&o, sizeof o);
    o.variant = USPLIT_VARIANT_VANILLA;
    o.levels = 1;
    o.filters = 8;
    o.z_dims[0] = 8;
    o.patch = 16;
    us_plan_options po = {.mode = US_PLAN_TRAIN, .batch = 1};
    int failed = !start || !grads || !after || usplit_context_create(&context, NULL) ||
                 us_net_config_from(&config, &o) || us_graph_build(&g, NULL, &config, 16) ||
                 us_plan_build(&plan, NULL, g, &po) || us_backend_cpu.compile(&exec, context, plan, 64);
    int at = failed ? -1 : us_graph_param(g, "first_bottom_up.2.res.block.2.weight");
    if (!failed && at >= 0 && g->params[at].count >= n) {
        size_t bytes = (size_t)g->n_floats * sizeof(float);
        float *p = calloc(1, bytes), *d = calloc(1, bytes), *m = calloc(1, bytes), *u = calloc(1, bytes);
        int64_t offset = g->params[at].offset;
        memcpy(p + offset, start, (size_t)n * sizeof *start);
        for (int64_t t = 0; t < all / n; t++) {
            memcpy(d + offset, grads + t * n, (size_t)n * sizeof *d);
            us_backend_cpu.adamax(exec, p, d, m, u, fixture_number(f, "adamax", "lr", 1e-3), t + 1, 1);
            for (int64_t i = 0; i < n; i++) {
                see(&w, p[offset + i], after[t * n + i], 1);
            }
        }
        free(p);
        free(d);
        free(m);
        free(u);
    }
    us_backend_cpu.release(exec);
    us_plan_free(plan);
    us_graph_free(g);
    usplit_context_free(context);
    free(start);
    free(grads);
    free(after);
    return tell(report, user, "adamax", &w, 1e-6);
}

static int plateau(const fixture *f, us_parity_report_fn report, void *user, int maximise)
{
    int64_t n, m;
    worst_of w = {0};
    float *metric = column(f, maximise ? "plateau/max/metric" : "plateau/min/metric", &n);
    float *lr = column(f, maximise ? "plateau/max/lr" : "plateau/min/lr", &m);
    const char *object = fixture_number(f, "plateau/max", "patience", -1) >= 0 ? "plateau/max" : "plateau";
    if (!metric || !lr || m != n) {
        return -1;
    }
    us_schedule s = {fixture_number(f, object, "lr0", 1e-3), NAN, 0};
    for (int64_t i = 0; i < n; i++) {
        us_schedule_step(&s, metric[i], maximise, fixture_number(f, object, "factor", 0.5),
                         (int64_t)fixture_number(f, object, "patience", 2));
        see(&w, s.learning_rate, lr[i], fabs((double)lr[i]));
    }
    free(metric);
    free(lr);
    return tell(report, user, maximise ? "plateau/max" : "plateau/min", &w, 1e-6);
}

int us_parity_pieces_math(const char *pieces_h5, us_parity_report_fn report, void *user)
{
    fixture f;
    int failed = 0;
    if (fixture_open(&f, pieces_h5)) {
        return -1;
    }
    failed |= fixture_has(&f, "explin") ? explin(&f, report, user) : 0;
    failed |= fixture_has(&f, "kl") ? kl(&f, report, user) : 0;
    failed |= fixture_has(&f, "adamax") ? adamax(&f, report, user) : 0;
    failed |= fixture_has(&f, "plateau/max") ? plateau(&f, report, user, 1) : 0;
    failed |= fixture_has(&f, "plateau/min") ? plateau(&f, report, user, 0) : 0;
    fixture_close(&f);
    return failed < 0 ? -1 : failed;
}
