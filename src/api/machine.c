// The host machine, from the system's own tables. Allocates nothing, keeps nothing.
#include "api/machine.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int us_api_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) {
        return CPU_COUNT(&set);
    }
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

// "MemTotal:       16307132 kB" -> bytes, when the line has this label.
static void read_line(const char *line, const char *label, int64_t *bytes)
{
    size_t n = strlen(label);
    if (strncmp(line, label, n) == 0) {
        *bytes = (int64_t)strtoll(line + n, NULL, 10) * 1024;
    }
}

void us_api_memory(int64_t *total, int64_t *available)
{
    char line[256];
    *total = *available = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    if (!file) {
        return;
    }
    while (fgets(line, sizeof line, file)) {
        read_line(line, "MemTotal:", total);
        read_line(line, "MemAvailable:", available);
    }
    fclose(file);
}
