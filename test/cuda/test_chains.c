// Random graphs of single ops through the device backend on the emulated device, float32: the CPU backend's own test
// against the double-precision reference, with the same tolerances.
#include "cuda/emulated.h"

#define TEST_BACKEND us_backend_cuda
#define TEST_TAKE_DEVICE(context) emulated_take((context), 0)
#define TEST_FEWER 6
#include "unit/test_parity_chains.c"
