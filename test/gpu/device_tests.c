// All test programs of the device in one, as each would have the kernels in it: the name it is called by chooses (links
// lie beside it), or the first argument. Makefile.cuda renames their main() and lists them in DEVICE_TESTS.
#include <stdio.h>
#include <string.h>

#define DECLARE(name) int main_##name(int argc, char **argv);
#define ENTRY(name) {#name, main_##name},

DEVICE_TESTS(DECLARE)

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} programs[] = {DEVICE_TESTS(ENTRY)};

enum { N_PROGRAMS = sizeof programs / sizeof programs[0] };

int main(int argc, char **argv)
{
    for (int first = 0; first < 2 && first < argc; first++) {
        const char *slash = strrchr(argv[first], '/'), *name = slash ? slash + 1 : argv[first];
        for (int i = 0; i < N_PROGRAMS; i++) {
            if (strcmp(name, programs[i].name) == 0) {
                return programs[i].run(argc - first, argv + first);
            }
        }
    }
    fprintf(stderr, "which? one of");
    for (int i = 0; i < N_PROGRAMS; i++) {
        fprintf(stderr, " %s", programs[i].name);
    }
    fprintf(stderr, "\n");
    return 2;
}
