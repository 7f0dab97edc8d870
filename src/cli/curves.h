// A training's history as a picture (SVG text) and as a table (CSV).
#ifndef CLI_CURVES_H
#define CLI_CURVES_H

#include <stdint.h>

#include <usplit.h>

int curves_write_svg(const char *path, const usplit_trainer_epoch *rows, int64_t n);
int curves_write_csv(const char *path, const usplit_trainer_epoch *rows, int64_t n);

#endif
