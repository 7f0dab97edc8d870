// Reading and splitting one frame whose channels are known.
#include "cli/score_frame.h"

#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

void score_frame_free(score_frame *f)
{
    free(f->targets);
    free(f->predictions);
    free(f->input);
    free(f->rest);
    memset(f, 0, sizeof *f);
}

// A channel's part in the input. How a measured input is mixed is not known: its rest is shown as 0.
static float mixed(const usplit_model_facts *model, float grey)
{
    return model->input == USPLIT_INPUT_MEAN ? grey / (float)model->channels : grey;
}

int score_frame_read(score_frame *f, const usplit_model_facts *model, const usplit_dataset_reader *reader,
                     int64_t index)
{
    int rc = CLI_FAILED;
    memset(f, 0, sizeof *f);
    f->channels = model->channels;
    CLI_TRY(reader->frame_size(index, &f->height, &f->width, reader->user));
    f->n = f->height * f->width;
    rc = CLI_FAILED;
    f->targets = cli_alloc((size_t)f->n, sizeof(float) * (size_t)f->channels);
    f->predictions = cli_alloc((size_t)f->n, sizeof(float) * (size_t)f->channels);
    f->input = cli_alloc((size_t)f->n, sizeof(float));
    f->rest = cli_alloc((size_t)f->n, sizeof(float));
    if (f->targets == NULL || f->predictions == NULL || f->input == NULL || f->rest == NULL) {
        goto done;
    }
    float top = (float)model->target_clip_value;
    f->model = model;
    for (int c = 0; c < f->channels; c++) {
        float *plane = f->targets + c * f->n;
        CLI_TRY(reader->read(index, c, plane, reader->user));
        for (int64_t i = 0; i < f->n; i++) {
            plane[i] = plane[i] > top ? top : plane[i];
            f->input[i] += mixed(model, plane[i]);
        }
    }
    if (model->input == USPLIT_INPUT_MEASURED) {
        CLI_TRY(reader->read(index, f->channels, f->input, reader->user));
    }
    rc = CLI_OK;
done:
    if (rc != CLI_OK) {
        score_frame_free(f);
    }
    return rc;
}

int score_frame_predict(score_frame *f, usplit_tiler *tiler, progress *p, usplit_tiler_result *result)
{
    int rc;
    usplit_image src, dst;
    *result = (usplit_tiler_result){.struct_size = sizeof *result};
    CLI_LIB(usplit_image_init(&src, sizeof src, f->input, USPLIT_TYPE_F32, 1, f->height, f->width, 1));
    CLI_LIB(usplit_image_init(&dst, sizeof dst, f->predictions, USPLIT_TYPE_F32, 1, f->height, f->width,
                              f->channels));
    dst.stride_column = (int64_t)sizeof(float);
    dst.stride_row = f->width * (int64_t)sizeof(float);
    dst.stride_channel = f->n * (int64_t)sizeof(float);
    dst.stride_frame = f->channels * dst.stride_channel;
    CLI_LIB(usplit_tiler_run(tiler, &src, &dst, result, progress_tiles, p));
    for (int64_t i = 0; i < f->n; i++) {
        float sum = 0;
        for (int c = 0; c < f->channels; c++) {
            sum += f->predictions[c * f->n + i];
        }
        f->rest[i] = f->model->input == USPLIT_INPUT_MEASURED ? 0 : f->input[i] - mixed(f->model, sum);
    }
done:
    return rc;
}
