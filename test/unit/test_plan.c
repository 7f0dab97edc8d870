// Plans (src/plan), without running them: every network in both layouts. A step reads what an earlier one has
// written, within its lifetime; tensors that live at the same time do not share memory; what is done again in the
// backward pass pays.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "plan/plan.h"

typedef struct built {
    us_graph *graph;
    us_plan *plan;
    int *filled;            // [tensor] channels written so far
    char name[160];
} built;

static void build(built *b, const usplit_model_options *o, int mode, int layout, int batch)
{
    us_net_config config;
    us_plan_options options = {.mode = mode, .layout = layout, .batch = batch, .kl_weight = 1};
    snprintf(b->name, sizeof b->name, "family %d variant %d levels %d context %d blocks %d merge %d ungated %d, mode %d "
             "layout %d", o->family, o->variant, o->levels, o->lc_count, o->blocks, o->merge, o->ungated, mode, layout);
    if (us_net_config_from(&config, o) || us_graph_build(&b->graph, NULL, &config, config.patch) ||
        us_plan_build(&b->plan, NULL, b->graph, &options)) {
        fail_msg("%s: %s", b->name, usplit_error_message());
    }
    b->filled = calloc((size_t)b->plan->n_tensors, sizeof *b->filled);
    assert_non_null(b->filled);
}

static void drop(built *b)
{
    us_plan_free(b->plan);
    us_graph_free(b->graph);
    free(b->filled);
}

static void alive(const built *b, int tensor, int step)
{
    const us_tensor *t = &b->plan->tensors[tensor];
    if (step < t->first || step > t->last) {
        fail_msg("%s: step %d uses tensor %d, which lives from %d to %d", b->name, step, tensor, t->first, t->last);
    }
}

static void reads(const built *b, int tensor, int step)
{
    if (tensor < 0) {
        return;
    }
    const us_tensor *t = &b->plan->tensors[tensor];
    alive(b, tensor, step);
    if (!t->external && b->filled[tensor] < t->c) {
        fail_msg("%s: step %d reads tensor %d, of whose %d channels %d are written", b->name, step, tensor, t->c,
                 b->filled[tensor]);
    }
}

static void writes(built *b, int tensor, int channels, int step)
{
    if (tensor >= 0) {
        alive(b, tensor, step);
        b->filled[tensor] += channels;
    }
}

static void run_program(built *b, const us_program *p, int step)
{
    for (int i = 0; i < p->n_ops; i++) {
        if (p->ops[i].code == US_U_LOAD) {
            reads(b, p->ops[i].ref, step);
        }
    }
    for (int i = 0; i < p->n_ops; i++) {
        if (p->ops[i].code == US_U_STORE) {
            writes(b, p->ops[i].ref, p->c, step);
        }
    }
}

static void every_read_follows_its_write(built *b)
{
    const us_plan *p = b->plan;
    for (int i = 0; i < p->n_steps; i++) {
        const us_step *s = &p->steps[i];
        reads(b, s->src, i);
        reads(b, s->src2, i);
        if (s->kind == US_STEP_MAP) {
            run_program(b, &p->programs[s->index], i);
        } else if (s->kind == US_STEP_SPATIAL_BACK && p->spatials[s->index].scanned >= 0) {
            reads(b, p->spatials[s->index].scanned, i);
            writes(b, p->spatials[s->index].partial, p->tensors[p->spatials[s->index].partial].c, i);
        }
        writes(b, s->dst, s->dst < 0 ? 0 : p->tensors[s->dst].c, i);
    }
}

static void tensors_alive_together_lie_apart(const built *b)
{
    const us_plan *p = b->plan;
    for (int i = 0; i < p->n_tensors; i++) {
        const us_tensor *t = &p->tensors[i];
        assert_true(t->offset >= 0 && t->offset + t->floats <= (t->per_worker ? p->worker_floats : p->sample_floats));
        for (int j = 0; j < i; j++) {
            const us_tensor *u = &p->tensors[j];
            int together = t->per_worker == u->per_worker && t->first <= u->last && u->first <= t->last;
            if (together && t->offset < u->offset + u->floats && u->offset < t->offset + t->floats) {
                fail_msg("%s: tensors %d and %d share memory", b->name, j, i);
            }
        }
    }
}

static void check(const usplit_model_options *o)
{
    for (int layout = US_LAYOUT_SAMPLES; layout <= US_LAYOUT_BATCH; layout++) {
        for (int mode = US_PLAN_TRAIN; mode <= US_PLAN_PREDICT; mode++) {
            built b;
            build(&b, o, mode, layout, 2);
            every_read_follows_its_write(&b);
            tensors_alive_together_lie_apart(&b);
            drop(&b);
        }
    }
}

static usplit_model_options network(int family, int variant)
{
    usplit_model_options o;
    usplit_model_options_init(&o, sizeof o);
    o.family = family;
    o.variant = variant;
    return o;
}

static void published_networks(void **state)
{
    (void)state;
    for (int family = USPLIT_FAMILY_HVAE; family <= USPLIT_FAMILY_HAE; family++) {
        for (int variant = USPLIT_VARIANT_VANILLA; variant <= USPLIT_VARIANT_DEEP; variant++) {
            usplit_model_options o = network(family, variant);
            check(&o);
        }
    }
    static const int others[4][2] = {{USPLIT_FAMILY_UNET, USPLIT_VARIANT_VANILLA},
                                     {USPLIT_FAMILY_UNET, USPLIT_VARIANT_REGULAR},
                                     {USPLIT_FAMILY_UNET, USPLIT_VARIANT_CONTEXT_AWARE},
                                     {USPLIT_FAMILY_BRAVENET, USPLIT_VARIANT_REGULAR}};
    for (int i = 0; i < 4; i++) {
        usplit_model_options o = network(others[i][0], others[i][1]);
        check(&o);
    }
}

// How far back a value that is done again reaches depends on the depth, the merges and the gates.
static void networks_of_other_shapes(void **state)
{
    (void)state;
    for (int i = 0; i < 4 * 3 * 3 * 2; i++) {
        usplit_model_options o = network(USPLIT_FAMILY_HVAE, i % 4);
        o.filters = 4;
        o.z_dims[0] = 3;
        o.levels = 1 + i / 4 % 3 * 2;
        o.merge = i / 12 % 3;
        o.ungated = i / 36;
        o.blocks = 1 + i % 3;
        check(&o);
    }
}

// With more blocks to a level, more steps lie between what is done again and its second use. Every family and variant
// of the autoencoders, with own and with shared layers of the context.
static void levels_of_several_blocks(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * 4 * 4 * 2 * 3; i++) {
        usplit_model_options o = network(i % 2, i / 2 % 4);
        o.filters = 4;
        o.z_dims[0] = 3;
        o.blocks = 1 + i / 8 % 4;
        o.shared_branch = i / 32 % 2 && o.blocks > 1 && o.variant != USPLIT_VARIANT_VANILLA;
        o.levels = i / 64 ? 3 * (i / 64) : 1;
        o.activation = i / 64 == 1 ? USPLIT_ACTIVATION_RELU : USPLIT_ACTIVATION_ELU;
        check(&o);
    }
}

// What README and docs/benchmarks.md promise rests on these: a training step of Lean-LC with a batch of 16 in at most
// 650 MB, for at most 6 % more work than a forward and two backward directions of every convolution.
static void what_is_done_again_pays(void **state)
{
    (void)state;
    usplit_model_options o = network(USPLIT_FAMILY_HVAE, USPLIT_VARIANT_LEAN);
    built b;
    build(&b, &o, US_PLAN_TRAIN, US_LAYOUT_SAMPLES, 16);
    assert_true(us_plan_arena_bytes(b.plan, 2) <= 650 * 1000 * 1000);
    double macs = 0;
    for (int i = 0; i < b.plan->n_steps; i++) {
        const us_step *s = &b.plan->steps[i];
        if (s->kind == US_STEP_CONV || s->kind == US_STEP_CONV_BACK || s->kind == US_STEP_CONV_WEIGHT) {
            const us_conv *c = &b.plan->convs[s->index];
            const us_rect *places = c->transposed ? &c->in : &c->out;
            macs += (double)c->ci * c->co * c->k * c->k * places->h * places->w;
        }
    }
    assert_true(macs <= 1.06 * 3 * (double)b.plan->macs);
    drop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_networks),
        cmocka_unit_test(networks_of_other_shapes),
        cmocka_unit_test(levels_of_several_blocks),
        cmocka_unit_test(what_is_done_again_pays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
