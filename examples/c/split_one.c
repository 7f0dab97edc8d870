/* Splits one image: loads a model, reads a binary PGM (8 or 16 bit), writes each channel as a PFM (float).
 *   cc split_one.c $(pkg-config --cflags --libs usplit) -o split_one
 * Run: split_one SCRATCH/pair.h5 SCRATCH/mixed.pgm SCRATCH/split
 * Fails: split_one SCRATCH/nothing.h5 SCRATCH/mixed.pgm SCRATCH/split */
#include <stdio.h>
#include <stdlib.h>
#include <usplit.h>

static void need(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "split_one: %s: %s\n", what, usplit_error_message());
        exit(1);
    }
}

int main(int argc, char **argv)
{
    usplit_context *context = NULL;
    usplit_model *model = NULL;
    usplit_tiler *tiler = NULL;
    usplit_model_facts facts = {.struct_size = sizeof facts};
    long w = 0, h = 0, top = 0;
    need(argc == 4, "use: split_one model.h5 image.pgm output");
    need(usplit_context_create(&context, NULL) == USPLIT_OK, "context");
    need(usplit_model_load(&model, context, argv[1]) == USPLIT_OK, "model");
    need(usplit_model_info(model, &facts) == USPLIT_OK, "model");
    need(usplit_tiler_create(&tiler, model, NULL) == USPLIT_OK, "tiler");

    FILE *file = fopen(argv[2], "rb");
    need(file && fscanf(file, "P5 %ld %ld %ld", &w, &h, &top) == 3 && fgetc(file) != EOF, argv[2]);
    need(w > 0 && h > 0 && w < 65536 && h < 65536 && top > 0 && top < 65536, "size of the image");
    size_t n = (size_t)(w * h), bytes = top < 256 ? 1 : 2, k = (size_t)facts.channels;
    unsigned char *raw = malloc(n * bytes);
    unsigned short *pixels = malloc(n * sizeof *pixels);
    float *planes = malloc(n * k * sizeof *planes);                 /* one plane after the other */
    need(raw && pixels && planes && fread(raw, bytes, n, file) == n, "pixels of the image");
    for (size_t i = 0; i < n; i++) {
        pixels[i] = (unsigned short)(bytes == 1 ? raw[i] : raw[2 * i] << 8 | raw[2 * i + 1]);
    }

    usplit_image in, out;
    usplit_image_init(&in, sizeof in, pixels, USPLIT_TYPE_U16, 1, h, w, 1);
    /* PFM wants the last row first: a view that begins there and steps backwards. */
    usplit_image_init(&out, sizeof out, planes + n - w, USPLIT_TYPE_F32, 1, h, w, facts.channels);
    out.stride_column = 4, out.stride_row = -4 * w, out.stride_channel = 4 * w * h;
    need(usplit_tiler_run(tiler, &in, &out, NULL, NULL, NULL) == USPLIT_OK, "split");
    for (size_t c = 0; c < k; c++) {
        char name[4096];
        snprintf(name, sizeof name, "%s_%d.pfm", argv[3], (int)c + 1);
        FILE *pfm = fopen(name, "wb");
        need(pfm && fprintf(pfm, "Pf\n%ld %ld\n-1.0\n", w, h) > 0, name);
        need(fwrite(planes + c * n, sizeof *planes, n, pfm) == n && fclose(pfm) == 0, name);
    }
    usplit_tiler_free(tiler);
    usplit_model_free(model);
    usplit_context_free(context);
    return 0;
}
