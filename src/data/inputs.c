// The record of training inputs: mean and deviation of every training frame, then how these spread between frames.
// A blank frame would take the logarithm of its deviation to minus infinity: it counts as LEAST of the pooled deviation.
#include "data/inputs.h"

#include <math.h>

#include "data/dataset_impl.h"

static const double LEAST = 0.01;

typedef struct measuring {
    const usplit_dataset *dataset;
    double *mean, *deviation;   // [training frames]
} measuring;

// The planes of a frame whose sum, times a weight, is its input.
typedef struct frame_input {
    us_plane planes[USPLIT_MAX_CHANNELS];
    int n;
    double weight;
} frame_input;

static frame_input input_of(const usplit_dataset *d, int64_t frame)
{
    int measured = d->statistics.input == USPLIT_INPUT_MEASURED;
    frame_input in = {.n = measured ? 1 : d->channels};
    in.weight = d->statistics.input == USPLIT_INPUT_MEAN ? 1.0 / in.n : 1;
    for (int c = 0; c < in.n; c++) {
        in.planes[c] = us_dataset_plane(d, frame, measured ? d->channels : c, 0);
    }
    return in;
}

static double input_at(const frame_input *in, int64_t i)
{
    double sum = 0;
    for (int c = 0; c < in->n; c++) {
        sum += (double)in->planes[c].data[i];
    }
    return in->weight * sum;
}

static usplit_status measure_frame(void *user, int task, int worker)
{
    const measuring *m = user;
    const usplit_dataset *d = m->dataset;
    (void)worker;
    frame_input in = input_of(d, d->set[USPLIT_SET_TRAIN][task]);
    int64_t n = in.planes[0].height * in.planes[0].width;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += input_at(&in, i);
    }
    double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) {
        double v = input_at(&in, i) - mean;
        squares += v * v;
    }
    m->mean[task] = mean;
    m->deviation[task] = sqrt(squares / (double)n);
    return USPLIT_OK;
}

// average, deviation, lowest, highest of n values.
static void spread(const double *values, int64_t n, double out[4])
{
    double sum = 0, squares = 0;
    out[2] = out[3] = values[0];
    for (int64_t i = 0; i < n; i++) {
        sum += values[i];
        out[2] = fmin(out[2], values[i]);
        out[3] = fmax(out[3], values[i]);
    }
    out[0] = sum / (double)n;
    for (int64_t i = 0; i < n; i++) {
        squares += (values[i] - out[0]) * (values[i] - out[0]);
    }
    out[1] = sqrt(squares / (double)n);
}

usplit_status us_data_inputs(const usplit_dataset *d, us_input_record *record)
{
    const us_allocator *a = &d->context->allocator;
    int64_t n = d->set_count[USPLIT_SET_TRAIN];
    double least = LEAST * d->statistics.input_deviation, low, high;
    usplit_status status;
    *record = (us_input_record){0};
    if (d->unpaired) {
        return USPLIT_OK;
    }
    measuring m = {.dataset = d, .mean = us_alloc(a, (size_t)n, 2 * sizeof *m.mean)};
    if (!m.mean) {
        return USPLIT_ERR_MEMORY;
    }
    m.deviation = m.mean + n;
    US_TRY_GOTO(us_pool_run(d->context->pool, (int)n, measure_frame, &m));
    record->frames = n;
    spread(m.mean, n, record->mean);
    spread(m.deviation, n, record->deviation);
    low = record->deviation[2];
    high = record->deviation[3];
    for (int64_t i = 0; i < n; i++) {
        m.deviation[i] = log(fmax(m.deviation[i], least));
    }
    spread(m.deviation, n, record->deviation);
    record->deviation[0] = exp(record->deviation[0]);
    record->deviation[2] = low;
    record->deviation[3] = high;
done:
    us_free(a, m.mean);
    return status;
}
