// The paper's tables and figures: which systems, how they were trained and evaluated, and the numbers published. All
// data, no behaviour; "data 4.5" and the like name the sections of the written description (see docs/tour.md).
#include "cli/repro/repro.h"

#include <string.h>

#define COUNT(list) ((int)(sizeof(list) / sizeof(list)[0]))

// ---- Trainings (data 4.5): batch, epochs until the rate is halved, epochs, epochs until the end ------------------

#define RECIPE_USUAL {32, 15, 200, 100}
#define RECIPE_USUAL_16 {16, 15, 200, 100}
#define RECIPE_USUAL_8 {8, 15, 200, 100}
#define RECIPE_DOUBLE {32, 30, 400, 200}
#define RECIPE_DOUBLE_16 {16, 30, 400, 200}
#define RECIPE_DOUBLE_8 {8, 30, 400, 200}
#define RECIPE_FOURFOLD {32, 60, 800, 400}

// ---- Tasks (data 1, 2.1) --------------------------------------------------------------------------------------------

// 49 or 80 training frames, each visited 200 times (data 2.6).
#define PAVIA_PATCHES (200.0 * 86436)
#define HAGEN_PATCHES (200.0 * 81920)

static const repro_task act_nuc = {.key = "act-nuc", .name = "Act vs Nuc", .source = REPRO_PAVIA, .channels = {1, 3},
                                   .channel_names = {"nuclei", "actin"}, .frames = 61, .drop_last = 32,
                                   .patches = PAVIA_PATCHES};
static const repro_task tub_nuc = {.key = "tub-nuc", .name = "Tub vs Nuc", .source = REPRO_PAVIA, .channels = {1, 4},
                                   .channel_names = {"nuclei", "tubulin"}, .frames = 61, .drop_last = 32,
                                   .patches = PAVIA_PATCHES};
static const repro_task act_tub = {.key = "act-tub", .name = "Act vs Tub", .source = REPRO_PAVIA, .channels = {3, 4},
                                   .channel_names = {"actin", "tubulin"}, .frames = 61, .drop_last = 32,
                                   .patches = PAVIA_PATCHES};
static const repro_task act_mit = {.key = "act-mit", .name = "Act vs Mit (Hagen)", .source = REPRO_HAGEN,
                                   .channels = {1, 1}, .channel_names = {"actin", "mitochondria"}, .frames = 100,
                                   .patches = HAGEN_PATCHES};

#define CRITTERS(identifier, k, n, s, j, fraction, halve, total, stop)                                              \
    static const repro_task identifier = {.key = k, .name = n, .source = REPRO_CRITTERS,                            \
                                          .channel_names = {"curves A", "curves B"}, .frames = 1000, .side = s,     \
                                          .joiner = j, .joiner_fraction = fraction,                                 \
                                          .recipe = {32, halve, total, stop},                                       \
                                          .patches = 800.0 * (s / 64) * (s / 64) * total}
CRITTERS(s128_n0, "s128-n0", "S = 128, N_join = 0", 128, 0, 0, 45, 1200, 300);
CRITTERS(s128_n25, "s128-n25", "S = 128, N_join = 25", 128, 1, 0.2, 90, 2400, 300);
CRITTERS(s256_n0, "s256-n0", "S = 256, N_join = 0", 256, 0, 0, 45, 1200, 300);
CRITTERS(s256_n25, "s256-n25", "S = 256, N_join = 25", 256, 1, 0.1, 90, 2400, 300);

const repro_task repro_own_task = {.key = "own", .name = "own images", .source = REPRO_OWN,
                                   .patches = PAVIA_PATCHES};

// ---- Table 1 (data 7.1) -----------------------------------------------------------------------------------------

#define HVAE(v) .family = USPLIT_FAMILY_HVAE, .variant = USPLIT_VARIANT_##v
#define HAE(v) .family = USPLIT_FAMILY_HAE, .variant = USPLIT_VARIANT_##v, .logvar = USPLIT_LOGVAR_NONE
#define UNET(v) .family = USPLIT_FAMILY_UNET, .variant = USPLIT_VARIANT_##v

static const repro_row table1_rows[] = {
    {.key = "double-dip", .name = "Double-DIP", .kind = REPRO_DOUBLE_DIP,
     .paper = {{22.8, 0.30}, {21.2, 0.20}, {20.9, 0.30}, {25.3, 0.56}}},
    {.key = "bravenet", .name = "BraveNet", .family = USPLIT_FAMILY_BRAVENET, .variant = USPLIT_VARIANT_REGULAR,
     .pad = 24, .recipe = RECIPE_DOUBLE, .gib = 2.8, .paper = {{31.7, 0.73}, {30.3, 0.61}, {25.9, 0.62}, {33.0, 0.92}}},
    {.key = "unet-context-aware", .name = "Context-Aware U-Net", UNET(CONTEXT_AWARE), .filters = 64, .pad = 24,
     .recipe = RECIPE_DOUBLE, .gib = 4.7, .paper = {{31.5, 0.74}, {29.0, 0.61}, {25.1, 0.61}, {31.1, 0.91}}},
    {.key = "unet-256", .name = "U-Net, patch 256", UNET(VANILLA), .filters = 64, .patch = 256, .pad = 64,
     .recipe = RECIPE_FOURFOLD, .hagen = RECIPE_DOUBLE, .gib = 9.4,
     .paper = {{33.2, 0.79}, {31.4, 0.71}, {28.1, 0.69}, {34.2, 0.95}}},
    {.key = "unet-512", .name = "U-Net, patch 512", UNET(VANILLA), .filters = 64, .patch = 512, .pad = 192,
     .recipe = RECIPE_DOUBLE, .gib = 28.7, .paper = {{33.3, 0.79}, {31.1, 0.72}, {27.9, 0.69}, {34.1, 0.94}}},
    {.key = "unet-regular", .name = "U-Net Regular-LC", UNET(REGULAR), .pad = 24, .recipe = RECIPE_DOUBLE, .gib = 12.5,
     .paper = {{33.5, 0.79}, {32.0, 0.71}, {27.6, 0.68}, {32.7, 0.93}}},
    {.key = "hae-vanilla", .name = "HAE Vanilla", HAE(VANILLA), .pad = 24, .recipe = RECIPE_USUAL, .gib = 2.3,
     .paper = {{31.7, 0.74}, {29.5, 0.64}, {25.4, 0.63}, {31.9, 0.92}}},
    {.key = "hae-lean", .name = "HAE Lean-LC", HAE(LEAN), .pad = 24, .recipe = RECIPE_USUAL, .gib = 3.9,
     .paper = {{33.6, 0.78}, {31.9, 0.70}, {27.7, 0.67}, {32.9, 0.94}}},
    {.key = "hae-regular", .name = "HAE Regular-LC", HAE(REGULAR), .pad = 24, .recipe = RECIPE_USUAL, .gib = 6.0,
     .paper = {{33.5, 0.79}, {31.6, 0.71}, {27.9, 0.68}, {33.4, 0.94}}},
    {.key = "hae-deep", .name = "HAE Deep-LC", HAE(DEEP), .pad = 16, .recipe = RECIPE_USUAL, .gib = 6.9,
     .paper = {{33.7, 0.80}, {31.8, 0.72}, {28.3, 0.69}, {32.8, 0.94}}},
    {.key = "hae-xl", .name = "HAE Vanilla-XL", HAE(VANILLA), .patch = 512, .pad = 192, .recipe = RECIPE_DOUBLE_16,
     .gib = 31.2, .paper = {{33.2, 0.79}, {30.2, 0.68}, {27.6, 0.67}, {34.2, 0.95}}},
    {.key = "hvae-vanilla", .name = "HVAE Vanilla", HVAE(VANILLA), .pad = 24, .recipe = RECIPE_USUAL, .gib = 2.8,
     .paper = {{31.8, 0.75}, {29.6, 0.64}, {25.2, 0.61}, {31.9, 0.93}}},
    {.key = "hvae-lean", .name = "HVAE Lean-LC", HVAE(LEAN), .pad = 24, .recipe = RECIPE_USUAL, .gib = 4.4,
     .paper = {{33.8, 0.79}, {31.9, 0.71}, {27.7, 0.68}, {32.7, 0.94}}},
    {.key = "hvae-regular", .name = "HVAE Regular-LC", HVAE(REGULAR), .pad = 24, .recipe = RECIPE_USUAL, .gib = 11.1,
     .paper = {{33.9, 0.80}, {32.1, 0.72}, {27.8, 0.68}, {34.1, 0.95}}},
    {.key = "hvae-deep", .name = "HVAE Deep-LC", HVAE(DEEP), .pad = 16, .recipe = RECIPE_USUAL, .gib = 12.8,
     .paper = {{33.9, 0.81}, {32.5, 0.73}, {28.6, 0.70}, {34.3, 0.95}}},
    {.key = "hvae-xl", .name = "HVAE Vanilla-XL", HVAE(VANILLA), .patch = 512, .pad = 192, .recipe = RECIPE_DOUBLE_8,
     .paper = {{33.4, 0.78}, {32.9, 0.69}, {27.6, 0.67}, {34.3, 0.95}}},
};

// ---- Table 2 (data 7.2) -----------------------------------------------------------------------------------------

static const repro_row table2_rows[] = {
    {.key = "vanilla", .name = "Vanilla", HVAE(VANILLA), .pad = 24,
     .paper = {{28.3, 0.90}, {25.5, 0.85}, {19.4, 0.75}, {15.8, 0.43}}},
    {.key = "lean", .name = "Lean-LC", HVAE(LEAN), .pad = 24,
     .paper = {{37.3, 0.97}, {35.1, 0.96}, {34.1, 0.97}, {32.2, 0.97}}},
    {.key = "regular", .name = "Regular-LC", HVAE(REGULAR), .pad = 24,
     .paper = {{37.0, 0.98}, {39.2, 0.98}, {41.5, 0.99}, {41.6, 0.98}}},
};

// ---- Table 3 (data 7.3) -----------------------------------------------------------------------------------------

#define VANILLA_64(n, psnr)                                                                                      \
    {.key = "vanilla-64-l" #n, .name = "Vanilla, patch 64, levels " #n, HVAE(VANILLA), .levels = n, .pad = 24,   \
     .recipe = RECIPE_USUAL_16, .paper = {{psnr, 0}}, .points = {{1, 0, n}}}
#define REGULAR_64(n, psnr)                                                                                      \
    {.key = "regular-64-l" #n, .name = "Regular-LC, patch 64, levels " #n, HVAE(REGULAR), .levels = n, .lc = n,  \
     .pad = 24, .recipe = RECIPE_USUAL_16, .paper = {{psnr, 0}}, .points = {{1, 1, n}}}
#define REGULAR_128(n, psnr)                                                                                     \
    {.key = "regular-128-l" #n, .name = "Regular-LC, patch 128, levels " #n, HVAE(REGULAR), .levels = n,         \
     .lc = n, .patch = 128, .pad = 32, .recipe = RECIPE_USUAL_16, .paper = {{psnr, 0}}, .points = {{1, 2, n}}}

static const repro_row table3_rows[] = {
    VANILLA_64(1, 24.3),  VANILLA_64(2, 25.1),  VANILLA_64(3, 25.2),  VANILLA_64(4, 25.4),
    REGULAR_64(1, 24.7),  REGULAR_64(2, 25.9),  REGULAR_64(3, 27.0),  REGULAR_64(4, 27.8),
    REGULAR_128(1, 24.8), REGULAR_128(2, 25.9), REGULAR_128(3, 27.0), REGULAR_128(4, 27.9),
};

// ---- Figure 4 (data 7.4) ----------------------------------------------------------------------------------------

static const repro_row figure4_rows[] = {
    {.key = "hae-vanilla", .name = "HAE Vanilla", HAE(VANILLA), .recipe = RECIPE_USUAL},
    {.key = "hvae-vanilla", .name = "HVAE Vanilla", HVAE(VANILLA), .recipe = RECIPE_USUAL},
};

// ---- Figure 6 (data 7.4): only plotted; the numbers are those of tables 1 and 3 that are the same setups -----------

// Panels: 1 patch size, 2 levels, 3 context inputs, 4 levels beyond the context.
#define U_NET(p, log2_p, pads, train, psnr)                                                                       \
    {.key = "unet-p" #p, .name = "U-Net, patch " #p, UNET(VANILLA), .filters = 64, .patch = p, .pad = pads,       \
     .recipe = RECIPE_##train, .paper = {{psnr, 0}}, .points = {{1, 0, log2_p}}}
#define LEVELS(n, p, log2_p, pads, train, patch_series, psnr)                                                     \
    {.key = "vanilla-l" #n "-p" #p, .name = "Vanilla, levels " #n ", patch " #p, HVAE(VANILLA), .levels = n,      \
     .patch = p, .pad = pads, .recipe = RECIPE_##train, .paper = {{psnr, 0}},                                     \
     .points = {{1, n, log2_p}, {2, patch_series, n}}}
#define LEVELS_AT(p, log2_p, pads, train, s)                                                                      \
    LEVELS(1, p, log2_p, pads, train, s, 0), LEVELS(2, p, log2_p, pads, train, s, 0),                             \
    LEVELS(3, p, log2_p, pads, train, s, 0), LEVELS(4, p, log2_p, pads, train, s, 0)
#define LEAN_LC(n, psnr)                                                                                          \
    {.key = "lean-lc" #n, .name = "Lean-LC, context inputs " #n, HVAE(LEAN), .lc = n, .pad = 24,                  \
     .recipe = RECIPE_USUAL, .paper = {{psnr, 0}}, .points = {{3, 9, n}}}
#define REGULAR_LC(n)                                                                                             \
    {.key = "regular-lc" #n, .name = "Regular-LC, context inputs " #n, HVAE(REGULAR), .lc = n, .pad = 24,         \
     .recipe = RECIPE_USUAL, .points = {{3, 10, n}}}
#define DEEP_LC(n, psnr)                                                                                          \
    {.key = "deep-l" #n, .name = "Deep-LC, levels " #n, HVAE(DEEP), .levels = n, .lc = 4, .pad = 16,              \
     .recipe = RECIPE_USUAL, .paper = {{psnr, 0}}, .points = {{4, 11, n}}}

static const repro_row figure6_rows[] = {
    U_NET(64, 6, 24, DOUBLE, 0), U_NET(128, 7, 32, DOUBLE, 0), U_NET(256, 8, 64, FOURFOLD, 28.1),
    U_NET(512, 9, 192, DOUBLE, 27.9),
    LEVELS(1, 64, 6, 24, USUAL, 5, 24.3), LEVELS(2, 64, 6, 24, USUAL, 5, 25.1), LEVELS(3, 64, 6, 24, USUAL, 5, 25.2),
    {.key = "vanilla-l4-p64", .name = "Vanilla, levels 4, patch 64", HVAE(VANILLA), .pad = 24, .recipe = RECIPE_USUAL,
     .paper = {{25.4, 0}}, .points = {{1, 4, 6}, {2, 5, 4}, {3, 9, 0}, {3, 10, 0}}},
    LEVELS_AT(128, 7, 32, USUAL, 6), LEVELS_AT(256, 8, 64, USUAL, 7), LEVELS_AT(512, 9, 192, USUAL_8, 8),
    LEAN_LC(1, 0), LEAN_LC(2, 0), LEAN_LC(3, 0), LEAN_LC(4, 27.7),
    REGULAR_LC(1), REGULAR_LC(2), REGULAR_LC(3),
    {.key = "regular-lc4", .name = "Regular-LC, context inputs 4", HVAE(REGULAR), .lc = 4, .pad = 24,
     .recipe = RECIPE_USUAL, .paper = {{27.8, 0}}, .points = {{3, 10, 4}, {4, 11, 4}}},
    DEEP_LC(5, 0), DEEP_LC(6, 0), DEEP_LC(7, 0), DEEP_LC(8, 28.6),
};

// ---- Experiments ------------------------------------------------------------------------------------------------

#define ROWS(list) .rows = list, .n_rows = COUNT(list)
#define IMAGE_TASKS .tasks = {&act_nuc, &tub_nuc, &act_tub, &act_mit}, .n_tasks = 4
#define TILES {.key = "tiles", .title = "inner tiles", .tiling = REPRO_INNER, .pad = -1}

static const repro_experiment experiments[] = {
    {.key = "table1", .title = "Table 1: all systems", IMAGE_TASKS, ROWS(table1_rows), .evals = {TILES}, .n_evals = 1,
     .picture = "figure7.png", .picture_title = "Figure 7: HVAE Vanilla, Lean-LC and Deep-LC",
     .pictured = {"hvae-vanilla", "hvae-lean", "hvae-deep"}, .pictured_task = "act-tub", .histograms = 1,
     .note = "Pads of the inner tiles: 24 of patch 64 (16 for Deep-LC, with which the authors' released evaluation "
             "gives the printed numbers), 64 of 256, 192 of 512. The published memory is that of a GPU in 16 bits. "
             "Double-DIP is fitted anew to random crops of the test frames, from two mixtures of each; the better "
             "assignment of its two outputs counts."},
    {.key = "table2", .title = "Table 2: synthetic critters", .tasks = {&s128_n0, &s128_n25, &s256_n0, &s256_n25},
     .n_tasks = 4, ROWS(table2_rows),
     .evals = {{.key = "whole", .title = "whole frame", .tiling = REPRO_WHOLE}, TILES}, .n_evals = 2,
     .picture = "figure5.png", .picture_title = "Figure 5: Vanilla and Regular-LC on synthetic critters",
     .pictured = {"vanilla", "regular"},
     .note = "The paper's numbers are of whole frames predicted in one pass, a size that networks trained on patches "
             "of 64 never saw; inner tiles have the size that they were trained on."},
    {.key = "table3", .title = "Table 3: levels of the hierarchy", .tasks = {&act_tub}, .n_tasks = 1,
     ROWS(table3_rows), .evals = {TILES}, .n_evals = 1, .metric = "RI-PSNR, dB", .n_panels = 1,
     .panels = {{.title = "PSNR by levels", .x_title = "levels", .n_ticks = 4, .ticks = {1, 2, 3, 4},
                 .labels = {"1", "2", "3", "4"}}},
     .series = {"Vanilla, patch 64", "Regular-LC, patch 64", "Regular-LC, patch 128"},
     .note = "Networks of b levels have b context inputs."},
    {.key = "fig4", .title = "Figure 4: inner and outer padding of tiles", IMAGE_TASKS, ROWS(figure4_rows),
     .evals = {{.key = "inner0", .title = "no padding", .pad = 0, .point = {1, 0, 0}},
               {.key = "inner16", .title = "inner 16", .pad = 16, .point = {1, 0, 16}},
               {.key = "inner24", .title = "inner 24", .pad = 24, .point = {1, 0, 24}},
               {.key = "inner28", .title = "inner 28", .pad = 28, .point = {1, 0, 28}},
               {.key = "outer16", .title = "outer 16", .tiling = REPRO_OUTER, .pad = 16, .point = {2, 0, 16}},
               {.key = "outer32", .title = "outer 32", .tiling = REPRO_OUTER, .pad = 32, .point = {2, 0, 32}},
               {.key = "outer48", .title = "outer 48", .tiling = REPRO_OUTER, .pad = 48, .point = {2, 0, 48}},
               {.key = "outer64", .title = "outer 64", .tiling = REPRO_OUTER, .pad = 64, .point = {2, 0, 64}}},
     .n_evals = 8, .metric = "change of RI-PSNR, %", .n_panels = 2,
     .panels = {{.title = "inner padding", .x_title = "pad, pixels", .n_ticks = 4, .ticks = {0, 16, 24, 28},
                 .labels = {"0", "16", "24", "28"}},
                {.title = "outer padding", .x_title = "pad, pixels", .n_ticks = 5, .ticks = {0, 16, 32, 48, 64},
                 .labels = {"0", "16", "32", "48", "64"}}},
     .seams = 1,
     .note = "Only plotted in the paper: quality falls as outer pads grow, and rises with inner pads until it "
             "saturates. seam: steps across borders of tiles over steps inside them, mean over frames and channels; "
             "1: no seam to be seen."},
    {.key = "fig6", .title = "Figure 6: patch size, levels, context inputs", .tasks = {&act_tub}, .n_tasks = 1,
     ROWS(figure6_rows), .evals = {TILES}, .n_evals = 1, .metric = "RI-PSNR, dB", .n_panels = 4,
     .panels = {{.title = "by patch size", .x_title = "patch, pixels", .n_ticks = 4, .ticks = {6, 7, 8, 9},
                 .labels = {"64", "128", "256", "512"}},
                {.title = "by levels", .x_title = "levels", .n_ticks = 4, .ticks = {1, 2, 3, 4},
                 .labels = {"1", "2", "3", "4"}},
                {.title = "by context inputs", .x_title = "context inputs of 4 levels", .n_ticks = 5,
                 .ticks = {0, 1, 2, 3, 4}, .labels = {"0", "1", "2", "3", "4"}},
                {.title = "levels beyond the context", .x_title = "levels, 4 of them with context", .n_ticks = 5,
                 .ticks = {4, 5, 6, 7, 8}, .labels = {"4", "5", "6", "7", "8"}}},
     .series = {"U-Net", "Vanilla, 1 level", "Vanilla, 2 levels", "Vanilla, 3 levels", "Vanilla, 4 levels",
                "Vanilla, patch 64", "Vanilla, patch 128", "Vanilla, patch 256", "Vanilla, patch 512", "Lean-LC",
                "Regular-LC", "Deep-LC"},
     .note = "Only plotted in the paper: the numbers beside ours are those of tables 1 and 3 for the same setups."},
};

const repro_experiment *repro_experiment_at(int index)
{
    return index >= 0 && index < COUNT(experiments) ? &experiments[index] : NULL;
}

const repro_experiment *repro_experiment_find(const char *key)
{
    for (int i = 0; i < COUNT(experiments); i++) {
        if (strcmp(experiments[i].key, key) == 0) {
            return &experiments[i];
        }
    }
    return NULL;
}
