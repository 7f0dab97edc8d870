/* Learns to split two channels held in memory: discs and stripes. Makes 20 frames of each, trains a very
 * small network for a few steps, saves it, and writes one mixture to try it on with split_one.
 *   cc train_pair.c $(pkg-config --cflags --libs usplit) -o train_pair
 * Run: train_pair SCRATCH/pair.h5 SCRATCH/mixed.pgm
 * Fails: train_pair SCRATCH/no/such/folder.h5 SCRATCH/mixed.pgm */
#include <stdio.h>
#include <stdlib.h>
#include <usplit.h>

enum { FRAMES = 20, SIDE = 96 };

static unsigned short frames[FRAMES][SIDE][SIDE][2];    /* frame, row, column, channel */

static void need(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "train_pair: %s: %s\n", what, usplit_error_message());
        exit(1);
    }
}

/* A small generator of our own: the same numbers everywhere. */
static int any(int below)
{
    static unsigned state = 1;
    state = state * 1664525u + 1013904223u;
    return (int)((state >> 8) % (unsigned)below);
}

static void draw(int frame)
{
    for (int disc = 0; disc < 12; disc++) {
        int y0 = any(SIDE), x0 = any(SIDE), r = 5 + any(6), bright = 200 + any(600);
        for (int y = 0; y < SIDE; y++) {
            for (int x = 0; x < SIDE; x++) {
                int d = (y - y0) * (y - y0) + (x - x0) * (x - x0);
                frames[frame][y][x][0] += (unsigned short)(d < r * r ? bright : 0);
            }
        }
    }
    int period = 7 + any(6), slope = 1 + any(3), bright = 300 + any(300);
    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < SIDE; x++) {
            frames[frame][y][x][1] = (unsigned short)((y * slope + 2 * x) % (2 * period) < 6 ? bright : 50);
        }
    }
}

static int32_t tell(const usplit_progress *p, void *user)
{
    (void)user;
    if (p->phase == USPLIT_PHASE_EPOCH) {
        printf("epoch %d: loss %.3f, validation PSNR %.2f dB\n", p->epoch + 1, p->loss, p->val_psnr);
    }
    return 0;       /* go on */
}

int main(int argc, char **argv)
{
    usplit_context *context = NULL;
    usplit_dataset *dataset = NULL;
    usplit_model *model = NULL;
    usplit_trainer *trainer = NULL;
    usplit_image image;
    usplit_model_options network;
    usplit_trainer_options training;
    usplit_trainer_facts facts = {.struct_size = sizeof facts};
    need(argc == 3, "use: train_pair model.h5 mixed.pgm");
    for (int f = 0; f < FRAMES; f++) {
        draw(f);
    }
    need(usplit_context_create(&context, NULL) == USPLIT_OK, "context");
    usplit_image_init(&image, sizeof image, frames, USPLIT_TYPE_U16, FRAMES, SIDE, SIDE, 2);
    need(usplit_dataset_create(&dataset, context, &image, 1, NULL) == USPLIT_OK, "dataset");

    usplit_model_options_init(&network, sizeof network);
    network.family = USPLIT_FAMILY_HAE;
    network.variant = USPLIT_VARIANT_LEAN;
    network.levels = network.lc_count = 2;
    network.filters = network.z_dims[0] = 8;
    network.patch = 32;
    need(usplit_model_create(&model, context, &network) == USPLIT_OK, "model");

    usplit_trainer_options_init(&training, sizeof training);
    training.batch = 8;
    training.steps_per_epoch = 10;
    training.max_epochs = 3;
    need(usplit_trainer_create(&trainer, model, dataset, &training) == USPLIT_OK, "trainer");
    need(usplit_trainer_run(trainer, tell, NULL) == USPLIT_OK, "training");
    need(usplit_trainer_info(trainer, &facts) == USPLIT_OK, "trainer");
    printf("%d steps, best validation PSNR %.2f dB\n", (int)facts.step, facts.best_val_psnr);
    usplit_trainer_free(trainer);
    need(usplit_model_save(model, argv[1]) == USPLIT_OK, "save");

    FILE *pgm = fopen(argv[2], "wb");
    need(pgm && fprintf(pgm, "P5\n%d %d\n65535\n", SIDE, SIDE) > 0, argv[2]);
    for (int i = 0; i < SIDE * SIDE; i++) {
        const unsigned short *both = &frames[0][0][0][0] + 2 * i;
        int mean = (both[0] + both[1]) / 2;             /* what the network learned to split */
        fputc(mean >> 8, pgm);
        fputc(mean & 255, pgm);
    }
    need(fclose(pgm) == 0, argv[2]);
    usplit_dataset_free(dataset);
    usplit_model_free(model);
    usplit_context_free(context);
    return 0;
}
