// The trainer on the emulated device, float32: the CPU's own tests (exact resume, bits that do not depend on
// threads, no allocation in steady state, skipped batches, limits, cancel, refusals).
#include "cuda/emulated.h"

#define TEST_BACKEND us_backend_cuda
#define TEST_TAKE_DEVICE(context) emulated_take((context), 0)
#define TEST_FILTERS 8         // eight channels at a time: an emulated thread costs as much as its work
#include "unit/test_trainer.c"
