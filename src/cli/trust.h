// What usplit split says about whether its result can be trusted: the residual with its score, and a warning when an
// image is not like those the model was trained on.
#ifndef CLI_TRUST_H
#define CLI_TRUST_H

#include <stdint.h>

#include <usplit.h>

#include "cli/text.h"
#include "cli/image/images.h"

// The residual of one image's pages, on its way into a file.
typedef struct trust_residual {
    image_file *src;             // the image once more: rows come out of the tiler later than they went in
    image_writer *writer;
    usplit_residual *page;
    int64_t width;
    int channels;
    float scale;                // of the input
    double clip_value, weights[USPLIT_MAX_CHANNELS];
    float *input, *dst;         // rows, as many as came last
    int64_t room;
} trust_residual;

// image, axes: what is split, as image_open_axes wants it; path: of the residual's file; layout: of the prediction's (its channels, type and names are not used).
int trust_open(trust_residual *r, const char *image, const char *axes, const char *path, const image_layout *layout,
               const usplit_model_facts *model, float scale);
int trust_begin_page(trust_residual *r);
// Rows of the prediction: planes of n_rows x width, of page `page` of the image, the output's `place`.
int trust_add(trust_residual *r, int64_t page, int64_t place, int64_t row, int64_t n_rows, const float *planes);
int trust_end_page(trust_residual *r, usplit_residual_facts *facts);
int trust_commit(trust_residual *r);
void trust_close(trust_residual *r);

// With what is usual for the model, where it has a calibration.
void trust_print_residual(const usplit_residual_facts *facts, const usplit_model *model);
void trust_json_residual(json *j, const usplit_residual_facts *facts);
// One line on stderr, where results of an image's n pages, from page `first` on, say that one is unusual.
void trust_warn(const char *image, int64_t first, const usplit_tiler_result *results, int64_t n,
                const usplit_model_facts *model);

// One line where deviations are calibrated for another way of predicting than this one.
void trust_warn_calibration(const usplit_model *model, const usplit_tiler_options *options);

#endif
