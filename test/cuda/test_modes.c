// Every mode of training data on the emulated device, float32, against the CPU; and the CPU's own tests of them.
#include "cuda/emulated.h"

static int on_device = 1;

#define TEST_DEVICE
#define TEST_TAKE_DEVICE(context) (on_device ? emulated_take((context), 0) : (void)(context))
#include "unit/test_modes.c"
