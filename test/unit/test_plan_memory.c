// What a training plan keeps from the forward to the backward pass, for every network of the paper: little more than
// the outputs of its convolutions but those in front of gates, the floor when these alone are done again (networks 11).
// In both layouts.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "plan/plan.h"

typedef struct network {
    const char *name;
    int family, variant;
    int64_t outputs, floor;     // floats per patch of all convolutions, of all but gates: "conv outputs", "less gates"
} network;

static const network networks[] = {
    {"HVAE Vanilla", USPLIT_FAMILY_HVAE, USPLIT_VARIANT_VANILLA, 5666816, 3928064},
    {"HVAE Lean-LC", USPLIT_FAMILY_HVAE, USPLIT_VARIANT_LEAN, 14930944, 10744832},
    {"HVAE Regular-LC", USPLIT_FAMILY_HVAE, USPLIT_VARIANT_REGULAR, 33046528, 24657920},
    {"HVAE Deep-LC", USPLIT_FAMILY_HVAE, USPLIT_VARIANT_DEEP, 40531968, 29880320},
    {"HAE Vanilla", USPLIT_FAMILY_HAE, USPLIT_VARIANT_VANILLA, 5148672, 3409920},
    {"HAE Lean-LC", USPLIT_FAMILY_HAE, USPLIT_VARIANT_LEAN, 14412800, 10226688},
    {"HAE Regular-LC", USPLIT_FAMILY_HAE, USPLIT_VARIANT_REGULAR, 27803648, 19415040},
    {"HAE Deep-LC", USPLIT_FAMILY_HAE, USPLIT_VARIANT_DEEP, 33722368, 23070720},
    {"U-Net", USPLIT_FAMILY_UNET, USPLIT_VARIANT_VANILLA, 966656, 966656},
    {"U-Net Regular-LC", USPLIT_FAMILY_UNET, USPLIT_VARIANT_REGULAR, 42868736, 35004416},
    {"Context-Aware U-Net", USPLIT_FAMILY_UNET, USPLIT_VARIANT_CONTEXT_AWARE, 1220608, 1220608},
    {"BraveNet", USPLIT_FAMILY_BRAVENET, USPLIT_VARIANT_REGULAR, 1499136, 1499136},
};

static us_graph *graph_of(const network *n)
{
    usplit_model_options o = {.struct_size = sizeof o, .family = n->family, .variant = n->variant};
    us_net_config config;
    us_graph *g;
    assert_int_equal(us_net_config_from(&config, &o), USPLIT_OK);
    assert_int_equal(us_graph_build(&g, NULL, &config, config.patch), USPLIT_OK);
    return g;
}

static void the_floor_is_the_published_one(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) {
        us_graph *g = graph_of(&networks[i]);
        int64_t outputs = 0, gates = 0;
        for (int n = 0; n < g->n_nodes; n++) {
            const us_node *x = &g->nodes[n];
            outputs += x->op == US_OP_CONV || x->op == US_OP_TCONV ? (int64_t)x->c * x->h * x->w : 0;
            gates += x->op == US_OP_GATE ? (int64_t)2 * x->c * x->h * x->w : 0;
        }
        assert_int_equal(outputs, networks[i].outputs);
        assert_int_equal(outputs - gates, networks[i].floor);
        us_graph_free(g);
    }
}

static void training_keeps_little_more_than_the_floor(void **state)
{
    (void)state;
    int over = 0;
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) {
        us_graph *g = graph_of(&networks[i]);
        for (int layout = US_LAYOUT_SAMPLES; layout <= US_LAYOUT_BATCH; layout++) {
            us_plan *plan;
            us_plan_options o = {.mode = US_PLAN_TRAIN, .layout = layout, .batch = 2, .kl_weight = 1};
            assert_int_equal(us_plan_build(&plan, NULL, g, &o), USPLIT_OK);
            double floor = (double)networks[i].floor, share = (double)plan->kept_floats / floor;
            if (getenv("USPLIT_TEST_VERBOSE")) {
                print_message("%s, layout %d: keeps %.3f of the floor, arena %.3f\n", networks[i].name, layout, share,
                              (double)plan->sample_floats / floor);
            }
            if (share > 1.2) {
                print_error("%s, layout %d: keeps %lld floats, %.2f times the floor of %lld\n", networks[i].name, layout,
                            (long long)plan->kept_floats, share, (long long)networks[i].floor);
                over++;
            }
            us_plan_free(plan);
        }
        us_graph_free(g);
    }
    assert_int_equal(over, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_floor_is_the_published_one),
        cmocka_unit_test(training_keeps_little_more_than_the_floor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
