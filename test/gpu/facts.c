// Is there a GPU? Says which, or why not with status 77.
#include <stdio.h>

#include "device.h"

int main(void)
{
    us_device_facts f;
    const char *text = us_device_facts_get(-1, &f);
    text = text || f.count < 1 ? text : us_device_facts_get(0, &f);
    if (text || f.count < 1) {
        printf("%s\n", text ? text : "no CUDA device");
        return 77;
    }
    printf("%s, compute capability %d.%d, %.1f GiB, driver %d.%d, runtime %d.%d\n", f.name, f.major, f.minor,
           (double)f.total_bytes / 1073741824, f.driver / 1000, f.driver % 1000 / 10, f.runtime / 1000,
           f.runtime % 1000 / 10);
    return 0;
}
