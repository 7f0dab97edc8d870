// Shared by the files that make a plan: values on their way from graph nodes to steps.
#ifndef US_LOWERING_H
#define US_LOWERING_H

#include "plan/plan.h"

// A value is a leaf (it has a tensor from a convolution or the caller), an elementwise expression, or a
// change of layout. Expressions have no memory until something needs them as a tensor.
typedef enum us_value_kind {
    US_V_LEAF,
    US_V_OP,            // elementwise: code and inputs
    US_V_CONCAT,        // channels of in[0], then of in[1]
    US_V_SLICE,         // channels c0 .. c0 + c
    US_V_WINDOW         // at (y, x): in[0] at (y + dy, x + dx)
} us_value_kind;

typedef struct us_value {
    us_value_kind kind;
    us_uop_code code;
    int n_in, in[US_UOP_MAX_IN];
    int c, h, w;        // full extent
    int c0, dy, dx;
    int ref;            // NOISE, KL_*: level; PARAM: parameter; MASK: mask
    int vec[3];
    float k, k2;
    int tensor;         // where it lies now, -1: nowhere
    int made;           // step that wrote the tensor
    int keep;           // 1: used more than once, gets a tensor of its own and, in the backward pass,
                        //    is recomputed into one
    int temporary;      // its tensor is forgotten at the next barrier
    int redo;           // leaf: 1 + number of the cheap step of kind redo_kind that makes it again from in[0]; 0: kept
    us_step_kind redo_kind;
} us_value;

// A recomputed value is used again for this many steps, then forgotten and recomputed when next needed. Steps are
// counted to the beginning of a node's backward rule: what it can read does not change while it is written.
enum { US_RECOMPUTE_REACH = 40 };

typedef struct us_open_entry {
    int value, oy, ox, c0, reg;
} us_open_entry;

typedef struct us_lowering {
    us_plan *plan;
    const us_graph *graph;
    us_value *values;
    int n_values, cap_values;
    int *forward;       // [node] value
    int *gradient;      // [node] value, -1: none
    int *aux;           // [node][2]: values the backward rule shares with the forward one
    us_rect *need;      // [node]
    unsigned char *used;        // [node] reaches an output
    unsigned char *grad_flows;  // [node] depends on a trained parameter
    int in_backward;
    int now;            // number of steps when the backward rule of the current node began
    us_open_entry *open;        // registers of the last program, for common subexpressions
    int n_open, cap_open;
    us_step *pending_steps;     // SUM_* steps waiting for the next barrier
    int n_pending, cap_pending;
} us_lowering;

// need.c
usplit_status us_need(us_lowering *l);
us_rect us_need_conv_input(const us_node *conv, const us_node *input, us_rect out);
us_rect us_need_both(us_rect a, us_rect b);     // the smallest window around two
us_rect us_need_spatial_input(const us_node *node, const us_node *input, us_rect out);

// emit.c
usplit_status us_emit_value(us_lowering *l, us_value value, int *out);
usplit_status us_emit_step(us_lowering *l, us_step step);
usplit_status us_emit_new_tensor(us_lowering *l, int c, int h, int w, us_rect rect, int *out);
// The value as a dense tensor of exactly `rect`.
usplit_status us_emit_tensor(us_lowering *l, int value, us_rect rect, int *tensor);
// Gives the value a tensor that outlives barriers.
usplit_status us_emit_keep(us_lowering *l, int value, us_rect rect);
usplit_status us_emit_sum(us_lowering *l, int value, int slot);
usplit_status us_emit_sum2(us_lowering *l, int a, int b, int slot);
void us_emit_forget(us_lowering *l);     // at the end of the forward pass: only leaves stay
us_rect us_emit_full(const us_lowering *l, int value);

// value.c. New values. An operation's `with` holds what it needs besides its inputs, of which -1 is none.
#define US_NONE ((us_value){0})
usplit_status us_value_op(us_lowering *l, us_uop_code code, const us_value *like, int a, int b, int c, us_value with,
                          int *out);
usplit_status us_value_slice(us_lowering *l, int x, int c0, int c, int *out);
usplit_status us_value_concat(us_lowering *l, int a, int b, int *out);
usplit_status us_value_window(us_lowering *l, int x, const us_value *at, int *out);     // h, w, dy, dx of `at`
usplit_status us_value_leaf(us_lowering *l, int c, int h, int w, us_rect rect, int *out);
// The window of it that any node wants.
us_rect us_value_wanted(const us_lowering *l, int value);
// Expressions read blocks of channels. 1: channels [c0, c0 + c) of it cannot be read so.
int us_value_crosses(const us_lowering *l, int v, int c0, int c);
// Gives it a tensor if it cannot be read so, in `parts` equal parts of its channels; us_value_parts says how many.
usplit_status us_value_readable(us_lowering *l, int x, int parts);
int us_value_parts(const us_node *n, int input);

// lower.c
usplit_status us_lower(us_lowering *l);
int us_lower_loss_number(const us_graph *g, int i);     // which of the graph's losses node i is
us_value us_lower_drop(const us_node *n);               // what the masks of a DROP need

// backward.c
usplit_status us_lower_back(us_lowering *l, int i);

// place.c
usplit_status us_place(us_plan *plan);

// Grows an array of elements by doubling; `cap` and the array change on success.
usplit_status us_plan_grow(const us_allocator *a, void *array, int n, int *cap, size_t size);

#endif
