// Shapes of convolutions to try the libraries with.
#ifndef CONV_SHAPES_H
#define CONV_SHAPES_H

#include "conv.h"

static const char *const conv_directions[] = {"forward", "back", "weight"};

// Training of the released networks, their heads and first layers, odd channels, and windows as tiles have them.
static const us_cu_shape conv_shapes[] = {
    {.batch = 8, .ci = 64, .co = 64, .k = 3, .stride = 1, .in_h = 64, .in_w = 64, .out_h = 64, .out_w = 64, .top = 1,
     .left = 1},
    {.batch = 32, .ci = 64, .co = 64, .k = 3, .stride = 1, .in_h = 32, .in_w = 32, .out_h = 32, .out_w = 32, .top = 1,
     .left = 1},
    {.batch = 32, .ci = 64, .co = 64, .k = 3, .stride = 1, .in_h = 8, .in_w = 8, .out_h = 8, .out_w = 8, .top = 1,
     .left = 1},
    {.batch = 32, .ci = 64, .co = 64, .k = 3, .stride = 1, .in_h = 2, .in_w = 2, .out_h = 2, .out_w = 2, .top = 1,
     .left = 1},
    {.batch = 32, .ci = 64, .co = 64, .k = 3, .stride = 2, .in_h = 64, .in_w = 64, .out_h = 32, .out_w = 32, .top = 1,
     .left = 1},
    {.batch = 32, .ci = 128, .co = 64, .k = 1, .stride = 1, .in_h = 32, .in_w = 32, .out_h = 32, .out_w = 32},
    {.batch = 32, .ci = 64, .co = 128, .k = 1, .stride = 1, .in_h = 16, .in_w = 16, .out_h = 16, .out_w = 16},
    {.batch = 32, .ci = 32, .co = 64, .k = 3, .stride = 1, .in_h = 16, .in_w = 16, .out_h = 16, .out_w = 16, .top = 1,
     .left = 1},
    {.batch = 32, .ci = 1, .co = 64, .k = 5, .stride = 1, .in_h = 64, .in_w = 64, .out_h = 64, .out_w = 64, .top = 2,
     .left = 2},
    {.batch = 32, .ci = 64, .co = 4, .k = 3, .stride = 1, .in_h = 64, .in_w = 64, .out_h = 64, .out_w = 64, .top = 1,
     .left = 1},
    {.batch = 32, .ci = 64, .co = 64, .k = 3, .stride = 2, .transposed = 1, .in_h = 16, .in_w = 16, .out_h = 32,
     .out_w = 32, .top = 1, .left = 1},
    {.batch = 3, .ci = 5, .co = 3, .k = 3, .stride = 2, .in_h = 7, .in_w = 9, .out_h = 4, .out_w = 5, .top = 1,
     .left = 1},
    {.batch = 2, .ci = 17, .co = 9, .k = 3, .stride = 2, .transposed = 1, .in_h = 5, .in_w = 6, .out_h = 10,
     .out_w = 12, .top = 1, .left = 1},
    {.batch = 1, .ci = 64, .co = 64, .k = 3, .stride = 1, .in_h = 60, .in_w = 61, .out_h = 58, .out_w = 60, .left = 1},
    {.batch = 1, .ci = 64, .co = 64, .k = 3, .stride = 1, .in_h = 64, .in_w = 64, .out_h = 58, .out_w = 60, .top = -2,
     .left = -1},
    {.batch = 2, .ci = 3, .co = 5, .k = 3, .stride = 1, .in_h = 12, .in_w = 13, .out_h = 7, .out_w = 9, .top = -1,
     .left = -2},
    {.batch = 1, .ci = 64, .co = 64, .k = 3, .stride = 2, .in_h = 41, .in_w = 40, .out_h = 20, .out_w = 20, .left = 1},
    {.batch = 1, .ci = 64, .co = 64, .k = 3, .stride = 2, .transposed = 1, .in_h = 16, .in_w = 16, .out_h = 29,
     .out_w = 31, .top = 2, .left = 1},
    {.batch = 1, .ci = 64, .co = 64, .k = 3, .stride = 2, .transposed = 1, .in_h = 16, .in_w = 16, .out_h = 21,
     .out_w = 31, .top = 5, .left = 1},
};

enum { N_CONV_SHAPES = sizeof conv_shapes / sizeof *conv_shapes };

#endif
