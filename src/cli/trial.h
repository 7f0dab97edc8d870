// Does a device compute right? One prediction on it, compared with what it must give.
#ifndef CLI_TRIAL_H
#define CLI_TRIAL_H

#include <stdint.h>

#include <usplit.h>

typedef struct trial {
    char device[64], engine[128];
    int32_t precision;          // USPLIT_PRECISION_*
    int32_t ok;
    double difference;          // the largest, relative to the largest expected value; NaN: it did not get so far
    double tolerance;
    char error[512];            // why not ok; else ""
} trial;

// With a model file: the self-test stored in it. Without (NULL): a small network made on the spot; on the CPU its
// output is compared with known values, elsewhere with the CPU's. Fills all of *t from device and precision.
void trial_run(trial *t, const char *device, int32_t precision, int64_t threads, const char *model_file);

const char *trial_precision(const trial *t);    // "float32"

#endif
