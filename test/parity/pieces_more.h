// The groups of pieces.h5 that are arithmetic (explin, kl, adamax, plateau), and tiled prediction.
#ifndef US_PIECES_MORE_H
#define US_PIECES_MORE_H

#include "parity/pieces.h"

int us_parity_pieces_math(const char *pieces_h5, us_parity_report_fn report, void *user);
int us_parity_pieces_tiled(const char *pieces_h5, us_parity_report_fn report, void *user);

#endif
