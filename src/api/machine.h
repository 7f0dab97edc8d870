// The host machine: what contexts and the list of devices ask of it.
#ifndef US_API_MACHINE_H
#define US_API_MACHINE_H

#include <stdint.h>

// Cores that this process may run on; at least 1.
int us_api_cores(void);

// Memory of the machine; 0: not known. *available is what can be had without swapping. Limits that were set for
// this process alone (containers) are not looked at.
void us_api_memory(int64_t *total, int64_t *available);

#endif
