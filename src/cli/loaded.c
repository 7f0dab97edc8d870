// Asks the dynamic loader.
#include "cli/loaded.h"

#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static int matters(const char *path)
{
    static const char *const names[] = {"libusplit", "libdnnl", "libhdf5", "libcudnn", "libcublas", "libcuda.",
                                        "libcudart", "libnvrtc", "libgomp", "libtbb", "libtiff", "libpng",
                                        "libblosc"};
    const char *base = files_base(path);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strncmp(base, names[i], strlen(names[i])) == 0) {
            return 1;
        }
    }
    return 0;
}

static int take(struct dl_phdr_info *info, size_t size, void *user)
{
    (void)size;
    if (info->dlpi_name == NULL || !matters(info->dlpi_name)) {
        return 0;
    }
    char *real = realpath(info->dlpi_name, NULL);       // the file, not the links that lead to it
    char *path = cli_format("%s", real != NULL ? real : info->dlpi_name);
    free(real);
    return files_list_add(user, path);
}

int loaded_list(files_list *list)
{
    return dl_iterate_phdr(take, list);
}
