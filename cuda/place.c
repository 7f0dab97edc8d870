// Images on the device: the frames of a training, taken there once, and the bands of a tiled prediction.
#include <string.h>

#include "exec.h"

// Channels of a plane.
static int held_channels(const us_images *images)
{
    return images->held ? images->held : images->channels;
}

static us_cu_gather_plan gather_plan(const us_exec *e, const us_images *images)
{
    const us_plan *p = e->plan;
    us_cu_gather_plan g = {.planes = e->planes, .levels = images->levels, .channels = images->channels,
                           .size = images->size, .reflect = images->reflect, .padding_value = images->padding_value,
                           .mean = images->mean, .inverse_deviation = images->inverse_deviation,
                           .target = {-1, 0}, .any = images->mixed || images->exact,
                           .held = held_channels(images), .exact = images->exact};
    for (int k = 0; k <= US_CU_LEVELS; k++) {
        int tensor = k < US_MAX_LC && k < images->levels ? p->input[k] : -1;
        g.input[k] = (us_cu_tensor){-1, 0};
        if (tensor >= 0) {
            g.input[k] = (us_cu_tensor){p->tensors[tensor].offset * e->batch, p->tensors[tensor].floats};
        }
    }
    if (p->target >= 0 && images->target_mean) {
        g.target = (us_cu_tensor){p->tensors[p->target].offset * e->batch, p->tensors[p->target].floats};
        for (int c = 0; c < images->channels; c++) {
            g.target_mean[c] = images->target_mean[c];
            g.target_inverse_deviation[c] = images->target_inverse_deviation[c];
        }
    }
    return g;
}

static int64_t held_floats(const us_images *images, const us_rows *r)
{
    return r->data ? (held_channels(images) * r->rows * r->width + 63) / 64 * 64 : 0;
}

static int64_t image_floats(const us_images *images)
{
    int64_t floats = 0;
    for (int64_t f = 0; f < images->frames; f++) {
        for (int k = 0; k < images->levels; k++) {
            us_rows r = images->rows(images->user, f, k);
            floats += held_floats(images, &r);
        }
    }
    return floats;
}

// Room for the images and their table; kept when it is large enough already.
static usplit_status make_room(us_exec *e, int64_t floats, int64_t n_planes, const char **refused)
{
    *refused = NULL;
    if (e->image_floats >= floats && e->n_planes >= n_planes) {
        return USPLIT_OK;
    }
    for (int i = 0; i < e->n_pipes; i++) {
        US_TRY(us_pipe_wait(&e->pipes[i]));
    }
    us_exec_drop_images(e);
    e->host_planes = us_calloc(e->a, (size_t)n_planes, sizeof *e->host_planes);
    if (!e->host_planes) {
        return USPLIT_ERR_MEMORY;
    }
    *refused = us_device_alloc((void **)&e->images, floats * 4);
    if (!*refused) {
        e->image_floats = floats;
        *refused = us_device_alloc((void **)&e->planes, n_planes * (int64_t)sizeof *e->planes);
    }
    if (*refused) {
        us_exec_drop_images(e);
        return USPLIT_OK;
    }
    e->n_planes = n_planes;
    return USPLIT_OK;
}

void us_exec_drop_images(us_exec *e)
{
    us_device_free(e->images);
    us_device_free(e->planes);
    us_free(e->a, e->host_planes);
    e->gather.planes = NULL;            // recordings that read them are made anew
    e->images = NULL;
    e->planes = NULL;
    e->host_planes = NULL;
    e->image_floats = e->n_planes = 0;
}

// Copies the rows and their table; returns when they are there.
static usplit_status take(us_exec *e, const us_images *images)
{
    us_stream *s = e->pipes[0].stream;
    int64_t at = 0, n = 0;
    for (int64_t f = 0; f < images->frames; f++) {
        for (int k = 0; k < images->levels; k++, n++) {
            us_rows r = images->rows(images->user, f, k);
            int64_t plane = r.rows * r.width;
            e->host_planes[n] = (us_cu_plane){.data = e->images + at, .height = r.height, .width = r.width,
                                              .first = r.first, .stride = plane};
            for (int c = 0; r.data && c < held_channels(images); c++) {
                US_CUDA_TRY(us_copy_up(s, e->images + at + c * plane, r.data + c * r.stride, plane * 4));
            }
            at += held_floats(images, &r);
        }
    }
    US_CUDA_TRY(us_copy_up(s, e->planes, e->host_planes, n * (int64_t)sizeof *e->planes));
    US_CUDA_TRY(us_stream_wait(s));
    return USPLIT_OK;
}

// A quarter of what the device has free may go to images.
usplit_status us_exec_attach(us_exec *e, const us_images *images, int *taken)
{
    us_device_facts now;
    const char *refused;
    int64_t floats = image_floats(images);
    *taken = 0;
    US_ASSERT(e->train && images->target_mean);
    US_CUDA_TRY(us_device_use(e->cuda->facts.ordinal));
    US_CUDA_TRY(us_device_facts_get(e->cuda->facts.ordinal, &now));
    if (floats * 4 > now.free_bytes / 4) {
        return USPLIT_OK;
    }
    US_TRY(make_room(e, floats, images->frames * images->levels, &refused));
    if (refused) {
        return USPLIT_OK;               // patches go on coming from the host
    }
    US_TRY(take(e, images));
    e->gather = gather_plan(e, images);
    US_TRY(us_pipe_record_gather(&e->pipes[0]));
    *taken = 1;
    return USPLIT_OK;
}

// ---- Bands --------------------------------------------------------------------------------------------

static usplit_status band_room(us_exec *e, int64_t floats)
{
    if (e->band_floats >= floats) {
        return USPLIT_OK;
    }
    us_device_free(e->band_data);
    e->band_data = NULL;
    e->band_floats = 0;
    const char *text = us_device_alloc((void **)&e->band_data, floats * 4);
    if (text) {
        US_FAIL(USPLIT_ERR_MEMORY, "%.0f MiB on %s for a band of tiles were refused (%s); a smaller batch (now %d), a "
                "memory budget or a narrower image helps", (double)floats * 4 / 1048576, e->cuda->facts.name, text,
                e->batch);
    }
    e->band_floats = floats;
    return USPLIT_OK;
}

usplit_status us_exec_band_begin(us_exec *e, const us_images *images, const us_band *band)
{
    const char *refused;
    const us_graph *g = e->plan->graph;
    int64_t planes = images->frames * images->levels, floats = image_floats(images);
    US_CUDA_TRY(us_device_use(e->cuda->facts.ordinal));
    US_TRY(make_room(e, floats, planes, &refused));
    if (refused) {
        US_FAIL(USPLIT_ERR_MEMORY, "%.0f MiB on %s for rows of the image were refused (%s); a smaller batch (now "
                "%d), a memory budget or a narrower image helps", (double)floats * 4 / 1048576, e->cuda->facts.name,
                refused, e->batch);
    }
    US_TRY(band_room(e, g->config.channels * band->rows * band->width));
    US_TRY(take(e, images));
    e->band = *band;
    if (!e->gather.planes) {            // the recordings hold where the table lies
        e->gather = gather_plan(e, images);
        for (int i = 0; i < e->n_pipes; i++) {
            usplit_status status = us_pipe_record_gather(&e->pipes[i]);
            if (status != USPLIT_OK) {
                e->gather.planes = NULL;
                return status;
            }
        }
    }
    int head = e->plan->node_tensor[g->head];
    e->stitch = (us_cu_stitch_plan){.band = e->band_data, .rows = band->rows, .width = band->width,
                                    .channels = g->config.channels, .inner = e->plan->tensors[head].h,
                                    .values = e->plan->tensors[head].c,
                                    .samples = band->samples,
                                    .head = {e->plan->tensors[head].offset * e->batch, e->plan->tensors[head].floats}};
    for (int c = 0; c < g->config.channels; c++) {
        e->stitch.gain[c] = band->gain[c];
        e->stitch.offset[c] = band->offset[c];
    }
    US_CUDA_TRY(us_fill_zero(e->pipes[0].stream, e->band_data, e->band_floats * 4));
    US_TRY(us_pipe_wait(&e->pipes[0]));
    e->in_band = 1;
    return USPLIT_OK;
}

usplit_status us_exec_band_end(us_exec *e, float *band)
{
    e->in_band = 0;
    for (int i = 0; i < e->n_pipes; i++) {
        US_TRY(us_pipe_wait(&e->pipes[i]));
    }
    if (band) {
        int64_t floats = e->stitch.channels * e->stitch.rows * e->stitch.width;
        US_CUDA_TRY(us_copy_down(e->pipes[0].stream, band, e->band_data, floats * 4));
        US_TRY(us_pipe_wait(&e->pipes[0]));
    }
    return USPLIT_OK;
}
