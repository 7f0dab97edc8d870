// Double-DIP (networks 9): takes one image apart without any training data. Two skip networks with fixed noise as
// input, one for each structure, are optimised until what they put out mixes to the image; that a convolutional
// network prefers natural images, and that the two are to have few edges in common, is all that separates them.
//
//   skip_net.c    the networks as a graph, all of a run in one
//   dip_loss.c    how well they mix to the image, and the edges they share: losses with gradients
//   dip_run.c     the optimisation: inputs, Adam, the iterate that is kept
#ifndef US_DIP_H
#define US_DIP_H

#include "base/context.h"
#include "net/graph.h"

// ---- Networks (networks 9.1) ----

// Smallest side of an image: the deepest scale, a 32nd of it, is padded by reflection of 2 pixels.
enum { US_DIP_SMALLEST = 65, US_DIP_LARGEST = 4096 };

// n networks in -> 1 (at most US_MAX_LOSSES) for h x w pixels: network i reads INPUT level i, `in` channels, and ends
// in the EXTERN graph->losses[i], values within 0 and 1; its parameters' names begin with names[i].
usplit_status us_skip_graph(us_graph **out, const us_allocator *a, int h, int w, int in, int n,
                            const char *const *names);

// ---- Losses: planes of n = h * w values; gradients are added to what is there ----

// The mean of (a r + (1 - a) t - image)^2 (networks 9.2); *d_a: its derivative by a.
double us_dip_blend_loss(const double *r, const double *t, double a, const double *image, int64_t n, double *d_r,
                         double *d_t, double *d_a);
// The mean of |r + t - image| (networks 9.3).
double us_dip_sum_loss(const double *r, const double *t, const double *image, int64_t n, double *d_r, double *d_t);
// Exclusion loss X(r, t) (networks 9.4); gradients are multiplied by `weight`, the loss is not. Sides of 8 or more;
// scratch: us_dip_exclusion_scratch doubles.
double us_dip_exclusion(const double *r, const double *t, int h, int w, double weight, double *d_r, double *d_t,
                        double *scratch);
int64_t us_dip_exclusion_scratch(int h, int w);

// ---- A run ----

// Element 0..7 of the square's symmetries, 0 the identity: +1 turns the rows' order around, +2 the columns', +4 then
// exchanges rows and columns, which a plane that is no square does not take.
void us_dip_turn(int element, int h, int w, int channels, const float *src, float *dst);

// One mixture: the element by which image and inputs are turned in an iteration (even ones; of an image that is no
// square only those it takes), and the deviation of the noise on the inputs.
int us_dip_element(int h, int w, int64_t iteration);
double us_dip_noise(int64_t iteration, int64_t iterations);

// image: one plane for each mixture, h x w, finite, not constant. estimates: two planes, grey levels. Options are
// complete: no field is left at "as proposed". Returns USPLIT_ERR_CANCELLED with estimates written when progress asks
// to stop.
usplit_status us_dip_run(usplit_context *context, const float *image, int h, int w, const usplit_dip_options *options,
                         float *estimates, usplit_dip_result *result, usplit_progress_fn progress, void *user);

#endif
