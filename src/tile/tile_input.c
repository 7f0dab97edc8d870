// Whether an image is like those the model was trained on: mean and deviation of its pixels, clipped, as rows come in,
// against the record of the training frames.
#include "tile/tile.h"

#include <math.h>

static const double FLOOR = 0.2;        // of a deviation between training frames, which may be alike, or only one
static const double LEAST = 1e-6;       // of the training's deviation: what a constant image counts as
static const double UNUSUAL = 4;

// Row by row, so that the sums do not depend on how many rows come together.
void us_tile_input_add(us_tile_input *in, const float *rows, int64_t n_rows, int64_t width, double about)
{
    for (int64_t i = 0; i < n_rows; i++) {
        double sum = 0, squares = 0;
        for (int64_t j = 0; j < width; j++) {
            double v = (double)rows[i * width + j] - about;
            sum += v;
            squares += v * v;
        }
        in->sum += sum;
        in->squares += squares;
    }
    in->n += n_rows * width;
}

static double distance(const usplit_model *m, double mean, double deviation)
{
    if (m->input_frames == 0) {
        return NAN;
    }
    double typical = m->frame_deviation[0];
    double a = fabs(mean - m->frame_mean[0]) / fmax(m->frame_mean[1], FLOOR * typical);
    double b = fabs(log(fmax(deviation, LEAST * typical) / typical)) / fmax(m->frame_deviation[1], FLOOR);
    return fmax(a, b);
}

void us_tile_input_judge(const us_tile_input *in, const usplit_model *m, double about, int first,
                         usplit_tiler_result *result)
{
    double n = in->n > 0 ? (double)in->n : 1, shift = in->sum / n;
    double mean = about + shift, deviation = sqrt(fmax(in->squares / n - shift * shift, 0));
    double d = in->n > 0 ? distance(m, mean, deviation) : NAN;      // none: a frame smaller than the only tiles allowed
    if (first || d > result->input_distance || isnan(result->input_distance)) {
        result->input_mean = mean;
        result->input_deviation = deviation;
        result->input_distance = d;
        result->input_unusual = d > UNUSUAL;
    }
}
