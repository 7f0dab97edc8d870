// kernels.h by NVRTC, CUDA's compiler as a library: opened where it is there, and asked for machine code of this
// device. The texts are compiled in a few pieces at a time, each on a thread of the pool. Kernels are loaded and
// launched by the driver, whose functions the CUDA runtime finds.
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <nvrtc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "kernels.h"

// ---- The files that a kernel is made of, as text ----

#define TEXT(name, file)                                                                                              \
    __asm__(".pushsection .rodata\n" #name ":\n.incbin \"" file "\"\n.byte 0\n.popsection\n");                        \
    extern const char name[] __attribute__((visibility("hidden")))

TEXT(text_compiled, "cuda/compiled.h");
TEXT(text_walk, "cuda/walk.h");
TEXT(text_gpu, "cuda/gpu.h");
TEXT(text_program, "cuda/program.h");
TEXT(text_uops, "src/plan/uops.h");
TEXT(text_spatial, "src/kernels/spatial.h");
TEXT(text_elem, "src/kernels/elem.h");
TEXT(text_step, "src/kernels/step.h");
TEXT(text_philox, "src/kernels/philox.h");

// NVRTC brings no C library.
static const char text_stdint[] = "#pragma once\n"
                                  "typedef short int16_t; typedef int int32_t; typedef long long int64_t;\n"
                                  "typedef unsigned short uint16_t; typedef unsigned int uint32_t;\n"
                                  "typedef unsigned long long uint64_t;\n",
                  text_stddef[] = "#pragma once\n#ifndef NULL\n#define NULL 0\n#endif\n", text_empty[] = "";

static const char *const file_names[] = {"compiled.h",  "walk.h",            "gpu.h",          "program.h",
                                         "plan/uops.h", "kernels/spatial.h", "kernels/elem.h", "kernels/step.h",
                                         "kernels/philox.h", "stdint.h",     "stddef.h",       "string.h",
                                         "math.h"};
static const char *const file_texts[] = {text_compiled, text_walk,    text_gpu,    text_program, text_uops,
                                         text_spatial,  text_elem,    text_step,   text_philox,  text_stdint,
                                         text_stddef,   text_empty,   text_empty};
enum { N_FILES = sizeof file_names / sizeof *file_names };

// ---- What is opened ----

#define NVRTC_CALLS(X)                                                                                                \
    X(nvrtcVersion) X(nvrtcGetErrorString) X(nvrtcCreateProgram) X(nvrtcCompileProgram) X(nvrtcDestroyProgram)        \
    X(nvrtcGetCUBINSize) X(nvrtcGetCUBIN) X(nvrtcGetProgramLogSize) X(nvrtcGetProgramLog)
#define DRIVER_CALLS(X)                                                                                               \
    X(cuModuleLoadData) X(cuModuleUnload) X(cuModuleGetFunction) X(cuFuncSetAttribute) X(cuLaunchKernel)              \
    X(cuGetErrorName)

struct us_cu_kernel {
    us_cu_kernels *of;
    const char *text;
    CUfunction function;
};

struct us_cu_kernels {
    const us_allocator *a;
    us_device_facts facts;
    int half;
    char arch[32];
    void *library;
#define X(name) __typeof__(&name) name;
    NVRTC_CALLS(X)
    DRIVER_CALLS(X)
#undef X
    pthread_mutex_t lock;
    us_cu_kernel **kernels;
    CUmodule *modules;
    int n_kernels, n_modules;
};

static _Thread_local char failure[512];

static const char *fail_driver(const us_cu_kernels *k, CUresult status, const char *what)
{
    const char *name = NULL;
    k->cuGetErrorName(status, &name);
    snprintf(failure, sizeof failure, "%s: %s", what, name ? name : "unknown error");
    return failure;
}

static const char *find_driver_call(const char *name, void **out)
{
    enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    cudaError_t status = cudaGetDriverEntryPointByVersion(name, out, 12000, cudaEnableDefault, &found);
#else
    cudaError_t status = cudaGetDriverEntryPoint(name, out, cudaEnableDefault, &found);
#endif
    if (status != cudaSuccess || found != cudaDriverEntryPointSuccess) {
        cudaGetLastError();
        snprintf(failure, sizeof failure, "the driver has no %s", name);
        return failure;
    }
    return NULL;
}

static const char *open_library(us_cu_kernels *k)
{
    char name[64];
    snprintf(name, sizeof name, "libnvrtc.so.%d", CUDART_VERSION / 1000);
    k->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!k->library) {
        const char *why = dlerror();
        snprintf(failure, sizeof failure, "%s", why ? why : name);
        return failure;
    }
#define X(call)                                                                     \
    *(void **)&k->call = dlsym(k->library, #call);                                  \
    if (!k->call) {                                                                 \
        snprintf(failure, sizeof failure, "%s has no %s", name, #call);             \
        return failure;                                                             \
    }
    NVRTC_CALLS(X)
#undef X
    return NULL;
}

static const char *open_driver(us_cu_kernels *k)
{
    const char *text = NULL;
#define X(call) text = text ? text : find_driver_call(#call, (void **)&k->call);
    DRIVER_CALLS(X)
#undef X
    return text;
}

static void describe(const us_cu_kernels *k, char *text, size_t size)
{
    int major = 0, minor = 0;
    k->nvrtcVersion(&major, &minor);
    snprintf(text, size, "NVRTC %d.%d", major, minor);
}

// ---- One piece: some texts -> machine code ----

typedef struct piece {
    char *code;
    char failure[sizeof failure];
} piece;

typedef struct compiling {
    us_cu_kernels *of;
    us_cu_kernel **fresh;       // [n]
    int n, n_pieces;
    piece *pieces;              // piece i has the texts i, i + n_pieces, ...
} compiling;

// Its first line with "error" in it.
static void note_log(const us_cu_kernels *k, nvrtcProgram program, piece *p, nvrtcResult status)
{
    size_t size = 0;
    snprintf(p->failure, sizeof p->failure, "NVRTC for %s: %s", k->arch, k->nvrtcGetErrorString(status));
    if (k->nvrtcGetProgramLogSize(program, &size) != NVRTC_SUCCESS || size < 2) {
        return;
    }
    char *log = us_alloc(k->a, size + 1, 1);
    if (log && k->nvrtcGetProgramLog(program, log) == NVRTC_SUCCESS) {
        log[size] = '\0';
        const char *line = strstr(log, "error");
        while (line && line > log && line[-1] != '\n') {
            line--;
        }
        line = line ? line : log;
        snprintf(p->failure, sizeof p->failure, "NVRTC for %s: %.*s", k->arch, (int)strcspn(line, "\n"), line);
    }
    us_free(k->a, log);
}

static void fetch_code(const us_cu_kernels *k, nvrtcProgram program, piece *p)
{
    size_t size = 0;
    nvrtcResult status = k->nvrtcGetCUBINSize(program, &size);
    p->code = status == NVRTC_SUCCESS ? us_alloc(k->a, size + 1, 1) : NULL;
    status = p->code ? k->nvrtcGetCUBIN(program, p->code) : status;
    if (!p->code || status != NVRTC_SUCCESS) {
        snprintf(p->failure, sizeof p->failure, "NVRTC for %s: %s", k->arch,
                 status == NVRTC_SUCCESS ? "out of memory" : k->nvrtcGetErrorString(status));
        us_free(k->a, p->code);
        p->code = NULL;
    }
}

static void make_code(const us_cu_kernels *k, const char *source, piece *p)
{
    nvrtcProgram program;
    char arch[48];
    snprintf(arch, sizeof arch, "--gpu-architecture=%s", k->arch);
    // Half tensors keep 11 bits: divisions and roots need not be right to the last of 24.
    const char *options[] = {arch, "-std=c++17", "-prec-div=false", "-prec-sqrt=false", "-ftz=true"};
    nvrtcResult status = k->nvrtcCreateProgram(&program, source, "programs.cu", N_FILES, file_texts, file_names);
    if (status != NVRTC_SUCCESS) {
        snprintf(p->failure, sizeof p->failure, "NVRTC: %s", k->nvrtcGetErrorString(status));
        return;
    }
    status = k->nvrtcCompileProgram(program, k->half ? 5 : 2, options);
    if (status == NVRTC_SUCCESS) {
        fetch_code(k, program, p);
    } else {
        note_log(k, program, p, status);
    }
    k->nvrtcDestroyProgram(&program);
}

static usplit_status compile_piece(void *user, int index, int worker)
{
    compiling *c = user;
    us_cu_kernels *k = c->of;
    piece *p = &c->pieces[index];
    size_t size = 64;
    (void)worker;
    for (int i = index; i < c->n; i += c->n_pieces) {
        size += strlen(c->fresh[i]->text) + 96;
    }
    char *source = us_alloc(k->a, size, 1);
    if (!source) {
        snprintf(p->failure, sizeof p->failure, "out of memory for programs");
        return USPLIT_OK;
    }
    size_t at = (size_t)snprintf(source, size, "#include \"compiled.h\"\n");
    for (int i = index; i < c->n; i += c->n_pieces) {
        at += (size_t)snprintf(source + at, size - at, "struct body_%d {\n%s};\nUS_COMPILED(program_%d, body_%d)\n", i,
                               c->fresh[i]->text, i, i);
    }
    make_code(k, source, p);
    us_free(k->a, source);
    return USPLIT_OK;
}

const char *us_cu_nvrtc_try(int major, int minor, int half, int n, const char *const *texts)
{
    us_cu_kernels k = {.half = half};
    piece made = {.code = NULL};
    us_cu_kernel *all = us_calloc(NULL, (size_t)n + 1, sizeof *all);
    us_cu_kernel **fresh = us_calloc(NULL, (size_t)n + 1, sizeof *fresh);
    compiling c = {.of = &k, .fresh = fresh, .n = n, .n_pieces = 1, .pieces = &made};
    snprintf(k.arch, sizeof k.arch, "sm_%d%d", major, minor);
    const char *why = all && fresh ? open_library(&k) : "out of memory";
    if (!why) {
        for (int i = 0; i < n; i++) {
            all[i].text = texts[i];
            fresh[i] = &all[i];
        }
        compile_piece(&c, 0, 0);
        snprintf(failure, sizeof failure, "%s", made.failure);
        why = made.code ? NULL : failure;
    }
    us_free(NULL, made.code);
    us_free(NULL, all);
    us_free(NULL, fresh);
    if (k.library) {
        dlclose(k.library);
    }
    return why;
}

void us_cu_nvrtc_words(char *text, size_t size)
{
    us_cu_kernels k = {.library = NULL};
    const char *why = open_library(&k);
    if (why) {
        snprintf(text, size, "no NVRTC, programs are interpreted (%s)", why);
    } else {
        describe(&k, text, size);
    }
    if (k.library) {
        dlclose(k.library);
    }
}

// ---- Loading ----

static const char *load_piece(us_cu_kernels *k, const compiling *c, int index)
{
    CUmodule module;
    CUresult status = k->cuModuleLoadData(&module, c->pieces[index].code);
    if (status != CUDA_SUCCESS) {
        return fail_driver(k, status, "cuModuleLoadData");
    }
    k->modules[k->n_modules++] = module;
    for (int i = index; i < c->n; i += c->n_pieces) {
        char name[32];
        snprintf(name, sizeof name, "program_%d", i);
        CUfunction *f = &c->fresh[i]->function;
        status = k->cuModuleGetFunction(f, module, name);
        status = status ? status : k->cuFuncSetAttribute(*f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                                         (int)k->facts.shared_bytes);
        if (status != CUDA_SUCCESS) {
            return fail_driver(k, status, "loading a compiled program");
        }
    }
    return NULL;
}

static void *grown(const us_cu_kernels *k, void *old, int n, int more, size_t size)
{
    void *block = us_alloc(k->a, (size_t)(n + more), size);
    if (block && n) {
        memcpy(block, old, (size_t)n * size);
    }
    if (block) {
        us_free(k->a, old);
    }
    return block;
}

static const char *make_room(us_cu_kernels *k, int kernels, int modules)
{
    us_cu_kernel **more = grown(k, k->kernels, k->n_kernels, kernels, sizeof *more);
    k->kernels = more ? more : k->kernels;
    CUmodule *loaded = more ? grown(k, k->modules, k->n_modules, modules, sizeof *loaded) : NULL;
    k->modules = loaded ? loaded : k->modules;
    return loaded ? NULL : "out of memory for compiled programs";
}

// All of the fresh ones, or none.
static const char *compile_fresh(us_cu_kernels *k, us_pool *pool, us_cu_kernel **fresh, int n)
{
    enum { LEAST_EACH = 3 };    // reading the files takes as long as some programs do
    int most = us_pool_size(pool), wanted = (n + LEAST_EACH - 1) / LEAST_EACH;
    compiling c = {.of = k, .fresh = fresh, .n = n, .n_pieces = wanted < most ? wanted : most};
    c.pieces = us_calloc(k->a, (size_t)c.n_pieces, sizeof *c.pieces);
    if (!c.pieces) {
        return "out of memory for compiled programs";
    }
    const char *text = make_room(k, n, c.n_pieces);
    if (!text && us_pool_run(pool, c.n_pieces, compile_piece, &c) != USPLIT_OK) {
        text = "the threads that compile programs failed";
    }
    for (int i = 0; i < c.n_pieces && !text; i++) {
        if (!c.pieces[i].code) {
            snprintf(failure, sizeof failure, "%s", c.pieces[i].failure);
            text = failure;
        }
    }
    for (int i = 0; i < c.n_pieces && !text; i++) {
        text = load_piece(k, &c, i);
    }
    for (int i = 0; i < c.n_pieces; i++) {
        us_free(k->a, c.pieces[i].code);
    }
    us_free(k->a, c.pieces);
    for (int i = 0; i < n && !text; i++) {
        k->kernels[k->n_kernels++] = fresh[i];
    }
    return text;
}

static us_cu_kernel *find(us_cu_kernel *const *kernels, int n, const char *text)
{
    for (int i = 0; i < n; i++) {
        if (!strcmp(kernels[i]->text, text)) {
            return kernels[i];
        }
    }
    return NULL;
}

static us_cu_kernel *make_kernel(us_cu_kernels *k, const char *text)
{
    size_t size = strlen(text) + 1;
    us_cu_kernel *made = us_calloc(k->a, 1, sizeof *made + size);
    if (made) {
        made->of = k;
        made->text = memcpy(made + 1, text, size);
    }
    return made;
}

static const char *compile_missing(us_cu_kernels *k, us_pool *pool, int n, const char *const *texts, us_cu_kernel **out)
{
    int missing = 0;
    const char *text = NULL;
    us_cu_kernel **fresh = us_calloc(k->a, (size_t)n + 1, sizeof *fresh);
    if (!fresh) {
        return "out of memory for compiled programs";
    }
    for (int i = 0; i < n && !text; i++) {
        out[i] = texts[i] ? find(k->kernels, k->n_kernels, texts[i]) : NULL;
        out[i] = texts[i] && !out[i] ? find(fresh, missing, texts[i]) : out[i];
        if (texts[i] && !out[i]) {
            out[i] = fresh[missing] = make_kernel(k, texts[i]);
            missing += out[i] != NULL;
            text = out[i] ? NULL : "out of memory for compiled programs";
        }
    }
    if (!text && missing > 0) {
        text = compile_fresh(k, pool, fresh, missing);
    }
    for (int i = 0; i < missing && text; i++) {
        us_free(k->a, fresh[i]);
    }
    us_free(k->a, fresh);
    return text;
}

static const char *compile(us_cu_kernels *k, us_pool *pool, int n, const char *const *texts, us_cu_kernel **out)
{
    pthread_mutex_lock(&k->lock);
    const char *text = compile_missing(k, pool, n, texts, out);
    pthread_mutex_unlock(&k->lock);
    return text;
}

// ---- Running ----

static const char *launch(const us_cu_kernel *kernel, us_stream *stream, int64_t blocks, int64_t shared_bytes,
                          const us_cu_program *program, const us_cu_env *env, const us_cu_op *ops)
{
    const void *arguments[] = {program, env, ops};
    void *given[3];
    memcpy(given, arguments, sizeof given);         // the driver only reads them
    const us_cu_kernels *k = kernel->of;
    CUresult status = k->cuLaunchKernel(kernel->function, (unsigned)blocks, 1, 1, (unsigned)program->threads, 1, 1,
                                        (unsigned)shared_bytes, (CUstream)us_stream_native(stream), given, NULL);
    return status == CUDA_SUCCESS ? NULL : fail_driver(k, status, "launch of a compiled program");
}

static void close_kernels(us_cu_kernels *k)
{
    const us_allocator *a = k->a;
    if (k->n_modules > 0) {
        us_device_use(k->facts.ordinal);        // by whatever thread
    }
    for (int i = 0; i < k->n_modules; i++) {
        k->cuModuleUnload(k->modules[i]);
    }
    for (int i = 0; i < k->n_kernels; i++) {
        us_free(a, k->kernels[i]);
    }
    if (k->library) {
        dlclose(k->library);
    }
    pthread_mutex_destroy(&k->lock);
    us_free(a, k->kernels);
    us_free(a, k->modules);
    us_free(a, k);
}

// Opening compiles and loads one small program: what cannot work here fails now.
static const char *try_it(us_cu_kernels *k)
{
    piece p = {.code = NULL};
    CUmodule module;
    make_code(k, "extern \"C\" __global__ void probe(float *x) { x[0] = 1; }\n", &p);
    if (!p.code) {
        snprintf(failure, sizeof failure, "%s", p.failure);
        return failure;
    }
    CUresult status = k->cuModuleLoadData(&module, p.code);
    us_free(k->a, p.code);
    if (status != CUDA_SUCCESS) {
        return fail_driver(k, status, "cuModuleLoadData");
    }
    k->cuModuleUnload(module);
    return NULL;
}

static const char *open_kernels(us_cu_kernels **out, const us_allocator *a, const us_device_facts *facts, int half)
{
    *out = NULL;
    us_cu_kernels *k = us_calloc(a, 1, sizeof *k);
    if (!k) {
        return "out of memory for a compiler";
    }
    k->a = a;
    k->facts = *facts;
    k->half = half;
    pthread_mutex_init(&k->lock, NULL);
    snprintf(k->arch, sizeof k->arch, "sm_%d%d", facts->major, facts->minor);
    const char *text = us_device_use(facts->ordinal);
    text = text ? text : open_library(k);
    text = text ? text : open_driver(k);
    text = text ? text : try_it(k);
    if (text) {
        close_kernels(k);
        return text;
    }
    *out = k;
    return NULL;
}

const us_cu_kernel_table us_cu_kernels_nvrtc = {open_kernels, close_kernels, compile, launch, describe};
