// The residual's file is written as rows of the prediction come; the input's rows are read a second time.
#include "cli/trust.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

int trust_open(trust_residual *r, const char *image, const char *axes, const char *path, const image_layout *like,
               const usplit_model_facts *model, float scale)
{
    int rc;
    image_layout layout = *like;
    layout.channels = 1;
    layout.type = USPLIT_TYPE_F32;
    memset(layout.names, 0, sizeof layout.names);
    layout.names[0] = "residual";
    *r = (trust_residual){.width = like->width, .channels = model->channels, .scale = scale,
                          .clip_value = model->clip_value};
    memcpy(r->weights, model->mixture_weight, sizeof r->weights);
    CLI_TRY(image_open_axes(&r->src, image, axes));
    CLI_TRY(image_create(&r->writer, path, &layout));
done:
    return rc;
}

int trust_begin_page(trust_residual *r)
{
    usplit_residual_free(r->page);
    return cli_status(usplit_residual_create(&r->page, r->width, r->channels, r->weights, r->clip_value));
}

static int make_room(trust_residual *r, int64_t n_rows)
{
    if (n_rows <= r->room) {
        return CLI_OK;
    }
    free(r->input);
    free(r->dst);
    r->room = 0;
    r->input = cli_alloc((size_t)(n_rows * r->width), sizeof *r->input);
    r->dst = cli_alloc((size_t)(n_rows * r->width), sizeof *r->dst);
    if (r->input == NULL || r->dst == NULL) {
        return CLI_FAILED;
    }
    r->room = n_rows;
    return CLI_OK;
}

int trust_add(trust_residual *r, int64_t page, int64_t place, int64_t row, int64_t n_rows, const float *planes)
{
    int rc;
    CLI_TRY(make_room(r, n_rows));
    CLI_TRY(image_read_rows(r->src, page, row, n_rows, r->input));
    for (int64_t i = 0; r->scale < 1 && i < n_rows * r->width; i++) {
        r->input[i] *= r->scale;
    }
    CLI_LIB(usplit_residual_add(r->page, n_rows, r->input, planes, r->dst));
    CLI_TRY(image_write_rows(r->writer, place, row, n_rows, r->dst));
done:
    return rc;
}

int trust_end_page(trust_residual *r, usplit_residual_facts *facts)
{
    *facts = (usplit_residual_facts){.struct_size = sizeof *facts};
    return cli_status(usplit_residual_info(r->page, facts));
}

int trust_commit(trust_residual *r)
{
    return image_commit(r->writer, NULL);
}

void trust_close(trust_residual *r)
{
    usplit_residual_free(r->page);
    image_writer_free(r->writer);
    image_close(r->src);
    free(r->input);
    free(r->dst);
    memset(r, 0, sizeof *r);
}

void trust_print_residual(const usplit_residual_facts *f, const usplit_model *model)
{
    char usual[96] = "";
    usplit_calibration c = {.struct_size = sizeof c};
    if (!(f->range > 0)) {
        fprintf(stderr, "residual  no score: the image, clipped where the training was, is constant\n");
        return;
    }
    if (usplit_model_get_calibration(model, &c) == USPLIT_OK && !isnan(c.residual_score)) {
        snprintf(usual, sizeof usual, " (usual: %.2g %%, %.2g %%, %.2f)", 100 * c.residual_score, 100 * c.residual_tail,
                 c.residual_structure);
    }
    fprintf(stderr, "residual  %.2g %% of the image's range, worst hundredth of the pixels %.2g %%, structure %.2f%s\n",
            100 * f->score, 100 * f->tail, f->structure, usual);
}

void trust_json_residual(json *j, const usplit_residual_facts *f)
{
    json_begin(j, NULL, '{');
    json_real(j, "score", f->score);
    json_real(j, "tail", f->tail);
    json_real(j, "structure", f->structure);
    json_real(j, "offset", f->offset);
    json_real(j, "noise", f->noise);
    json_real(j, "range", f->range);
    json_end(j, '}');
}

void trust_warn(const char *image, int64_t first, const usplit_tiler_result *results, int64_t n,
                const usplit_model_facts *m)
{
    int64_t worst = 0, count = 0;
    for (int64_t i = 0; i < n; i++) {
        count += results[i].input_unusual;
        worst = results[i].input_distance > results[worst].input_distance ? i : worst;
    }
    if (count == 0) {
        return;
    }
    fprintf(stderr,
            "warning: %s: %lld of %lld pages not like the training images; page %lld: mean %.4g, deviation %.4g; "
            "trained on: mean %.4g to %.4g, deviation %.4g to %.4g\n",
            image, (long long)count, (long long)n, (long long)(first + worst) + 1, results[worst].input_mean,
            results[worst].input_deviation, m->frame_mean[2], m->frame_mean[3], m->frame_deviation[2],
            m->frame_deviation[3]);
}

void trust_warn_calibration(const usplit_model *model, const usplit_tiler_options *o)
{
    usplit_calibration c = {.struct_size = sizeof c};
    int shifts = o->shifts > 1 ? o->shifts : 1;
    if (!o->calibrated || usplit_model_get_calibration(model, &c) != USPLIT_OK ||
        (c.samples == o->samples && c.shifts == shifts)) {
        return;
    }
    fprintf(stderr, "warning: the calibration is for --samples %d --shifts %d, these deviations are of %d and %d\n",
            c.samples, c.shifts, o->samples, shifts);
}
