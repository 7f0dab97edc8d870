// On a real device: what the tests of the emulated one ask of the emulation (cuda/emulate.h), which is nothing.
#include "emulate.h"

void us_emulate_shuffle(uint64_t seed)
{
    (void)seed;                 // a device takes blocks in an order of its own
}

int64_t us_emulate_leaks(void)
{
    return 0;                   // told by compute-sanitizer
}

int us_emulate_handles(void)
{
    return 0;
}
