// A place -> the pixels of its patch: input with lateral context, and targets (data sections 2.4, 3.2, 11.1). As
// published, a patch is the mean of one place, in whole rows; any other goes pixel by pixel, by the rules that a device
// follows too (kernels/place.h).
#include "data/dataset_impl.h"

// ---- What is as published -----------------------------------------------------------------------

int us_dataset_is_plain(const usplit_dataset *dataset, const us_drawing *drawing)
{
    int plain = !dataset->unpaired && dataset->statistics.input == USPLIT_INPUT_MEAN &&
                dataset->statistics.centring == USPLIT_CENTRING_FLOORED && !drawing->augment &&
                drawing->uncorrelated == 0;
    for (int c = 0; c < dataset->channels; c++) {
        plain = plain && drawing->low[c] == 1 && drawing->high[c] == 1;
    }
    return plain;
}

static int place_is_plain(const usplit_dataset *d, const us_place *p)
{
    int plain = us_dataset_is_plain(d, &us_drawing_published) && p->turn == 0;
    for (int c = 0; c < d->channels && plain; c++) {
        plain = p->frame[c] == p->frame[0] && p->y[c] == p->y[0] && p->x[c] == p->x[0] && p->gain[c] == 1 &&
                p->weight[c] == 1.0f / (float)d->channels;
    }
    return plain;
}

static void cut_plain(const usplit_dataset *d, const us_place *place, int64_t patch, int n_levels, float *input,
                      float *target)
{
    const us_statistics *s = &d->statistics;
    us_plane planes[USPLIT_MAX_CHANNELS];
    int64_t frame = place->frame[0], y0 = place->y[0], x0 = place->x[0];
    for (int k = 0; k < n_levels && input; k++) {
        for (int c = 0; c < d->channels; c++) {
            planes[c] = us_dataset_plane(d, frame, c, k);
        }
        us_patch_cut_mean(planes, d->channels, us_patch_context_start(y0, patch, k),
                          us_patch_context_start(x0, patch, k), patch, s->padding, (float)s->padding_value,
                          (float)s->input_mean, (float)(1.0 / s->input_deviation), input + k * patch * patch,
                          1);
    }
    for (int c = 0; c < d->channels && target; c++) {
        planes[0] = us_dataset_plane(d, frame, c, 0);
        us_patch_cut_mean(planes, 1, y0, x0, patch, s->padding, (float)s->padding_value,
                          (float)s->target_mean[c], (float)(1.0 / s->target_deviation[c]), target + c,
                          d->channels);
    }
}

// ---- Any other ----------------------------------------------------------------------------------

static us_patch_part part_of(const usplit_dataset *d, const us_place *place, int channel, int level, int64_t patch,
                             float weight)
{
    us_plane plane = us_dataset_plane(d, place->frame[channel], channel, level);
    const us_frame *f = &d->frames[place->frame[channel]];
    int reflect = d->statistics.padding == USPLIT_PADDING_REFLECT;
    int exact = d->statistics.centring == USPLIT_CENTRING_EXACT;
    us_patch_part part = {.data = plane.data, .width = plane.width, .weight = weight};
    part.rows = us_place_edge(place->y[channel], patch, level, f->height, plane.height, reflect, exact);
    part.columns = us_place_edge(place->x[channel], patch, level, f->width, plane.width, reflect, exact);
    return part;
}

static void cut_any(const usplit_dataset *d, const us_place *place, int64_t patch, int n_levels, float *input,
                    float *target)
{
    const us_statistics *s = &d->statistics;
    us_patch_part parts[US_PLACE_CHANNELS];
    float outside = (float)s->padding_value;
    for (int k = 0; k < n_levels && input; k++) {
        int n = 0;
        for (int c = 0; c < US_PLACE_CHANNELS; c++) {
            if (place->weight[c] != 0) {
                parts[n++] = part_of(d, place, c, k, patch, place->weight[c]);
            }
        }
        us_patch_mix(parts, n, patch, place->turn, s->padding, outside, (float)s->input_mean,
                     (float)(1.0 / s->input_deviation), input + k * patch * patch, 1);
    }
    for (int c = 0; c < d->channels && target; c++) {
        parts[0] = part_of(d, place, c, 0, patch, place->gain[c]);
        us_patch_mix(parts, 1, patch, place->turn, s->padding, outside, (float)s->target_mean[c],
                     (float)(1.0 / s->target_deviation[c]), target + c, d->channels);
    }
}

usplit_status us_dataset_cut(const usplit_dataset *dataset, const us_place *place, int64_t patch, int n_levels,
                             float *input, float *target)
{
    if (patch < 1 || patch > US_DATA_MAX_SIDE || (n_levels > 1 && patch % 2 != 0)) {
        US_FAIL(USPLIT_ERR_SHAPE, "patch is %lld; accepted: 1 to %d, even with lateral context",
                (long long)patch, US_DATA_MAX_SIDE);
    }
    if (n_levels < 1 || n_levels > dataset->levels) {
        US_FAIL(USPLIT_ERR_SHAPE, "%d levels wanted, the dataset holds %d", n_levels, dataset->levels);
    }
    if (place_is_plain(dataset, place)) {
        cut_plain(dataset, place, patch, n_levels, input, target);
    } else {
        cut_any(dataset, place, patch, n_levels, input, target);
    }
    return USPLIT_OK;
}
