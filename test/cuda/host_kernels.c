// US_TEST_CXX: the compiler with its flags, from the Makefile; it finds the folders from the top of the source tree.
#include "host_kernels.h"

#ifdef US_EMULATE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_LIBRARIES = 64 };

typedef const char *(*launch_fn)(us_stream *stream, int64_t blocks, int64_t shared_bytes, const us_cu_program *program,
                                 const us_cu_env *env, const us_cu_op *ops);

struct us_cu_kernel {
    launch_fn run;
};

struct us_cu_kernels {
    void *libraries[MOST_LIBRARIES];
    us_cu_kernel *kernels[MOST_LIBRARIES];
    int n;
};

static const char *open_host(us_cu_kernels **out, const us_allocator *a, const us_device_facts *facts, int half)
{
    (void)a, (void)facts, (void)half;
    *out = calloc(1, sizeof **out);
    return *out ? NULL : "out of memory";
}

static void close_host(us_cu_kernels *k)
{
    for (int i = 0; i < k->n; i++) {
        dlclose(k->libraries[i]);
        free(k->kernels[i]);
    }
    free(k);
}

static void write_texts(FILE *f, int n, const char *const *texts)
{
    fputs("#include \"compiled.h\"\n", f);
    for (int i = 0; i < n; i++) {
        if (texts[i]) {
            fprintf(f, "struct body_%d {\n%s};\nUS_COMPILED(program_%d, body_%d)\n", i, texts[i], i, i);
        }
    }
}

// *library: NULL where it failed.
static const char *build(void **library, int n, const char *const *texts)
{
    char folder[200], source[256], made[256], command[1024];
    const char *where = getenv("TMPDIR");
    *library = NULL;
    snprintf(folder, sizeof folder, "%s/usplit-kernels-XXXXXX", where && *where ? where : "/tmp");
    if (!mkdtemp(folder)) {
        return "no folder for kernels";
    }
    snprintf(source, sizeof source, "%s/k.cpp", folder);
    snprintf(made, sizeof made, "%s/k.so", folder);
    FILE *f = fopen(source, "w");
    if (f) {
        write_texts(f, n, texts);
        fclose(f);
    }
    snprintf(command, sizeof command, "%s -shared -o %s %s", US_TEST_CXX, made, source);
    const char *text = f && system(command) == 0 ? NULL : "the host's compiler failed";
    *library = text ? NULL : dlopen(made, RTLD_NOW | RTLD_LOCAL);
    if (!text && !*library) {
        text = dlerror();
    }
    unlink(made);
    unlink(source);
    rmdir(folder);
    return text;
}

static const char *compile(us_cu_kernels *k, us_pool *pool, int n, const char *const *texts, us_cu_kernel **out)
{
    (void)pool;
    if (k->n == MOST_LIBRARIES) {
        return "too many libraries of kernels";
    }
    us_cu_kernel *kernels = calloc((size_t)n + 1, sizeof *kernels);
    const char *text = kernels ? build(&k->libraries[k->n], n, texts) : "out of memory";
    if (text) {
        free(kernels);
        return text;
    }
    for (int i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "program_%d", i);
        void *found = texts[i] ? dlsym(k->libraries[k->n], name) : NULL;
        memcpy(&kernels[i].run, &found, sizeof found);
        out[i] = found ? &kernels[i] : NULL;
    }
    k->kernels[k->n++] = kernels;
    return NULL;
}

static const char *launch(const us_cu_kernel *kernel, us_stream *stream, int64_t blocks, int64_t shared_bytes,
                          const us_cu_program *program, const us_cu_env *env, const us_cu_op *ops)
{
    return kernel->run(stream, blocks, shared_bytes, program, env, ops);
}

static void describe(const us_cu_kernels *k, char *text, size_t size)
{
    (void)k;
    snprintf(text, size, "host compiler");
}

const us_cu_kernel_table host_kernels = {open_host, close_host, compile, launch, describe};
#endif
