// The public surface of context and model: devices, struct sizes, bad arguments, parameters by name, plans,
// files. What a careless or an older or newer caller gets.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <usplit.h>

#include "common/folder.h"
#include "common/must.h"

static usplit_context *context;

static usplit_model *small(void)
{
    usplit_model_options o;
    usplit_model *m;
    must(usplit_model_options_init(&o, sizeof o));
    o.variant = USPLIT_VARIANT_LEAN;
    o.levels = 2;
    o.filters = 4;
    o.z_dims[0] = 4;
    o.patch = 16;
    must(usplit_model_create(&m, context, &o));
    return m;
}

static usplit_device_facts device(int32_t index)
{
    usplit_device_facts f = {.struct_size = sizeof f};
    must(usplit_device_info(index, &f));
    return f;
}

// What the list says is what a context gets: with a plug-in and without, with a GPU and without.
static void device_list(void **state)
{
    (void)state;
    int32_t n = -1;
    usplit_context_options o;
    usplit_context *c;
    must(usplit_context_options_init(&o, sizeof o));
    o.threads = 1;
    must(usplit_device_count(&n));
    assert_true(n >= 2);
    for (int32_t i = 0; i < n; i++) {
        usplit_device_facts f = device(i);
        usplit_context_facts got = {.struct_size = sizeof got};
        o.device = f.name;
        assert_true(strlen(f.text) > 0);
        if (f.usable) {
            assert_string_equal(f.reason, "");
            must(usplit_context_create(&c, &o));
            must(usplit_context_info(c, &got));
            assert_string_equal(got.device, f.name);
            usplit_context_free(c);
        } else {
            assert_true(i > 0 && strlen(f.reason) > 0);
            f.reason[100] = '\0';       // either text may be cut
            refused(usplit_context_create(&c, &o), USPLIT_ERR_DEVICE, f.reason);
        }
        assert_true(f.total_bytes >= f.free_bytes && f.free_bytes >= 0);
    }
    usplit_device_facts cpu = device(0), short_one = {.struct_size = offsetof(usplit_device_facts, text)};
    assert_string_equal(cpu.name, "cpu");
    assert_true(cpu.usable && cpu.total_bytes > 1000000);
    assert_non_null(strstr(cpu.text, "oneDNN"));
    assert_non_null(strstr(cpu.text, "core"));
    assert_true(strncmp(device(1).name, "cuda", 4) == 0);
    memset(short_one.text, 0x5a, sizeof short_one.text);
    must(usplit_device_info(0, &short_one));
    assert_true(short_one.usable && short_one.text[0] == 0x5a);
    refused(usplit_device_info(n, &cpu), USPLIT_ERR_ARGUMENT, "accepted: 0 to");
    refused(usplit_device_info(-1, &cpu), USPLIT_ERR_ARGUMENT, "-1");
    refused(usplit_device_info(0, NULL), USPLIT_ERR_ARGUMENT, "NULL");
    refused(usplit_device_count(NULL), USPLIT_ERR_ARGUMENT, "NULL");
    must(usplit_device_count(&n));
    must(usplit_device_info(1, &cpu));
    assert_non_null(strstr(usplit_error_message(), "count is NULL"));   // no device is no failure of these calls
}

// The same once more in a process that finds the plug-in, where it was built.
static const char plugin_file[] = "lib/libusplit_cuda.so";
static int finds_plugin;

static void with_plugin(void **state)
{
    (void)state;
    char command[512], self[256];
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip();                     // the CUDA libraries are not built for them
#endif
    if (access(plugin_file, R_OK) != 0) {
        skip();
    }
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    snprintf(command, sizeof command, "LD_LIBRARY_PATH=\"lib:$LD_LIBRARY_PATH\" '%s' with-plugin > %s/log 2>&1", self,
             folder);
    int failed = system(command);
    snprintf(command, sizeof command, "%s '%s/log'; rm -f '%s/log'", failed ? "cat" : ":", folder, folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(failed, 0);
}

static void plugin_is_found(void **state)
{
    (void)state;
    usplit_device_facts f = device(1);
    assert_true(finds_plugin);
    print_message("%s: %s\n", f.name, f.usable ? f.text : f.reason);
    assert_null(strstr(f.reason, "libusplit_cuda.so: cannot open"));
    assert_null(strstr(f.reason, "another version"));
}

static void devices(void **state)
{
    (void)state;
    usplit_context_options o;
    usplit_context_facts f = {.struct_size = sizeof f};
    usplit_context *c;
    int cuda = device(1).usable;
    must(usplit_context_options_init(&o, sizeof o));
    o.threads = 1;
    if (!cuda) {
        o.device = "cuda:0";
        refused(usplit_context_create(&c, &o), USPLIT_ERR_DEVICE, "cuda:0");
        assert_null(c);
        o.device = "cuda";
        refused(usplit_context_create(&c, &o), USPLIT_ERR_DEVICE, "'cuda'");
    }
    o.device = "cuda:999";
    refused(usplit_context_create(&c, &o), USPLIT_ERR_DEVICE, "cuda:999");
    o.device = "abacus";
    refused(usplit_context_create(&c, &o), USPLIT_ERR_ARGUMENT, "abacus");
    o.device = "auto";
    must(usplit_context_create(&c, &o));
    must(usplit_context_info(c, &f));
    assert_string_equal(f.device, cuda ? "cuda:0" : "cpu");
    assert_non_null(strstr(f.reason, "auto: "));        // says what it could not have
    assert_non_null(strstr(f.engine, cuda ? "CUDA" : "oneDNN"));
    assert_int_equal(f.threads, 1);
    usplit_context_free(c);
    o.device = "cpu";
    must(usplit_context_create(&c, &o));
    must(usplit_context_info(c, &f));
    assert_string_equal(f.reason, "asked for");
    usplit_context_free(c);
    o.precision = USPLIT_PRECISION_FLOAT16;
    refused(usplit_context_create(&c, &o), USPLIT_ERR_UNSUPPORTED, "float16");
    o.precision = 7;
    refused(usplit_context_create(&c, &o), USPLIT_ERR_ARGUMENT, "7");
    o.precision = USPLIT_PRECISION_FLOAT32;
    o.deterministic = 1;
    o.cache_folder = "/nowhere/at/all";                     // of no interest to the CPU
    must(usplit_context_create(&c, &o));
    usplit_context_free(c);
    o.tune = 2;
    refused(usplit_context_create(&c, &o), USPLIT_ERR_ARGUMENT, "tune is 2");
    o.tune = 1;
    must(usplit_context_create(&c, &o));
    usplit_context_free(c);
    o.threads = -3;
    refused(usplit_context_create(&c, &o), USPLIT_ERR_ARGUMENT, "-3");
    o.threads = 1;
    o.alloc = (usplit_alloc_fn)(uintptr_t)1;
    refused(usplit_context_create(&c, &o), USPLIT_ERR_ARGUMENT, "release");
    refused(usplit_context_create(NULL, NULL), USPLIT_ERR_ARGUMENT, "NULL");
}

// Callers compiled against an older or a newer header.
static void struct_sizes(void **state)
{
    (void)state;
    struct {
        usplit_context_options o;
        uint64_t later;
    } newer;
    usplit_context *c;
    must(usplit_context_options_init(&newer.o, sizeof newer));
    newer.o.threads = 1;
    must(usplit_context_create(&c, &newer.o));              // trailing zero bytes mean "as before"
    usplit_context_free(c);
    newer.later = 1;
    refused(usplit_context_create(&c, &newer.o), USPLIT_ERR_UNSUPPORTED, "context options");
    usplit_context_options older;
    memset(&older, 0x5a, sizeof older);
    must(usplit_context_options_init(&older, offsetof(usplit_context_options, alloc)));
    assert_true(*((unsigned char *)&older + offsetof(usplit_context_options, alloc)) == 0x5a);  // never past the size
    must(usplit_context_create(&c, &older));
    usplit_context_facts f = {.struct_size = offsetof(usplit_context_facts, engine)};
    memset(f.engine, 0x5a, sizeof f.engine);
    must(usplit_context_info(c, &f));
    assert_true(f.engine[0] == 0x5a);
    f.struct_size = 3;
    refused(usplit_context_info(c, &f), USPLIT_ERR_ARGUMENT, "struct_size");
    usplit_context_free(c);
    refused(usplit_context_options_init(NULL, 8), USPLIT_ERR_ARGUMENT, "NULL");
}

static void parameters_by_name(void **state)
{
    (void)state;
    usplit_model *m = small();
    usplit_model_facts f = {.struct_size = sizeof f};
    const char *name;
    int64_t shape[4], total = 0;
    int32_t n;
    must(usplit_model_info(m, &f));
    assert_false(f.has_normalisation);
    assert_true(isnan(f.best_val_psnr));
    for (int64_t i = 0; i < f.n_entries; i++) {
        int64_t count = 1;
        must(usplit_model_get_entry(m, i, &name, shape, &n));
        for (int32_t d = 0; d < n; d++) {
            count *= shape[d];
        }
        total += strstr(name, "running_") || strstr(name, "num_batches") ? 0 : count;
    }
    assert_int_equal(total, f.n_parameters);
    refused(usplit_model_get_entry(m, f.n_entries, &name, shape, &n), USPLIT_ERR_ARGUMENT, "accepted");
    float w[4] = {1, 2, 3, 4}, back[4];
    must(usplit_model_set_parameter(m, "likelihood.parameter_net.bias", w, 4));
    must(usplit_model_get_parameter(m, "likelihood.parameter_net.bias", back, 4));
    assert_memory_equal(w, back, sizeof w);
    refused(usplit_model_get_parameter(m, "likelihood.parameter_net.bias", back, 3), USPLIT_ERR_ARGUMENT, "4 values");
    refused(usplit_model_get_parameter(m, "no.such", back, 1), USPLIT_ERR_ARGUMENT, "no.such");
    w[2] = NAN;
    refused(usplit_model_set_parameter(m, "likelihood.parameter_net.bias", w, 4), USPLIT_ERR_NUMERIC, "2");
    float v[4] = {1, -1, 1, 1};
    refused(usplit_model_set_parameter(m, "first_bottom_up.2.res.block.0.running_var", v, 4), USPLIT_ERR_ARGUMENT,
            "-1");
    must(usplit_model_get_parameter(m, "likelihood.parameter_net.bias", back, 4));
    assert_true(back[2] == 3);                              // a refusal changes nothing
    usplit_model_free(m);
}

static void normalisation_is_checked(void **state)
{
    (void)state;
    usplit_model *m = small();
    usplit_model_normalisation n = {.struct_size = sizeof n, .clip_value = 100, .input_mean = 5, .input_deviation = 2,
                                    .target_mean = {1, 2}, .target_deviation = {1, 1}};
    usplit_tiler *t;
    refused(usplit_tiler_create(&t, m, NULL), USPLIT_ERR_STATE, "normalisation");
    n.target_deviation[1] = 0;
    refused(usplit_model_set_normalisation(m, &n), USPLIT_ERR_ARGUMENT, "target");
    n.target_deviation[1] = 1;
    n.input_deviation = -1;
    refused(usplit_model_set_normalisation(m, &n), USPLIT_ERR_ARGUMENT, "input_deviation");
    n.input_deviation = 2;
    n.padding = 7;
    refused(usplit_model_set_normalisation(m, &n), USPLIT_ERR_ARGUMENT, "7");
    n.padding = 0;
    memset(n.channel_names[0], 'x', USPLIT_NAME_BYTES);
    refused(usplit_model_set_normalisation(m, &n), USPLIT_ERR_ARGUMENT, "channel_names[0]");
    snprintf(n.channel_names[0], USPLIT_NAME_BYTES, "actin");
    n.clip_value = INFINITY;
    must(usplit_model_set_normalisation(m, &n));
    must(usplit_tiler_create(&t, m, NULL));
    usplit_tiler_free(t);
    usplit_model_free(m);
}

static void files(void **state)
{
    (void)state;
    const char *path = in_folder("model.h5"), *missing = in_folder("none/model.h5");
    usplit_model *m = small(), *back;
    double error;
    usplit_model_normalisation n = {.struct_size = sizeof n, .clip_value = INFINITY, .input_mean = 5,
                                    .input_deviation = 2, .target_mean = {1, 2}, .target_deviation = {3, 4},
                                    .pixel_size = 0.25};
    snprintf(n.channel_names[1], USPLIT_NAME_BYTES, "actin");
    must(usplit_model_set_normalisation(m, &n));
    must(usplit_model_save(m, path));
    must(usplit_model_load(&back, context, path));
    must(usplit_model_check(back, &error));
    usplit_model_facts f = {.struct_size = sizeof f};
    must(usplit_model_info(back, &f));
    assert_true(f.has_normalisation && isinf(f.clip_value) && f.target_deviation[1] == 4 && f.pixel_size == 0.25);
    assert_string_equal(f.channel_names[1], "actin");
    usplit_model_free(back);
    refused(usplit_model_save(m, missing), USPLIT_ERR_FILE, "none");
    refused(usplit_model_load(&back, context, missing), USPLIT_ERR_FILE, "none");
    assert_null(back);
    assert_int_equal(truncate(path, 3000), 0);
    assert_int_equal(usplit_model_load(&back, context, path), USPLIT_ERR_FORMAT);
    assert_null(back);
    unlink(path);
    usplit_model_free(m);
}

static void count_line(const char *text, void *user)
{
    assert_true(strlen(text) > 0);
    ++*(int64_t *)user;
}

static void plans(void **state)
{
    (void)state;
    usplit_model *m = small();
    usplit_model_cost one = {.struct_size = sizeof one}, two = {.struct_size = sizeof two};
    int64_t lines = 0;
    must(usplit_model_plan(m, USPLIT_MODE_TRAIN, 1, 0, &one));
    must(usplit_model_plan(m, USPLIT_MODE_TRAIN, 2, 0, &two));
    assert_true(one.kept_bytes > 0 && two.kept_bytes == 2 * one.kept_bytes && two.macs == one.macs);
    must(usplit_model_plan_text(m, USPLIT_MODE_TRAIN, 2, 0, count_line, &lines));
    assert_int_equal(lines, two.n_steps);
    must(usplit_model_plan(m, USPLIT_MODE_PREDICT, 1, 8, &one));
    must(usplit_model_plan(m, USPLIT_MODE_PREDICT, 1, 0, &two));
    assert_true(one.macs < two.macs && one.kept_bytes == 0);
    refused(usplit_model_plan(m, USPLIT_MODE_PREDICT, 1, 7, &one), USPLIT_ERR_ARGUMENT, "7");
    refused(usplit_model_plan(m, USPLIT_MODE_PREDICT, 1, 18, &one), USPLIT_ERR_ARGUMENT, "18");
    refused(usplit_model_plan(m, 3, 1, 0, &one), USPLIT_ERR_ARGUMENT, "3");
    refused(usplit_model_plan(m, USPLIT_MODE_TRAIN, 0, 0, &one), USPLIT_ERR_ARGUMENT, "0");
    usplit_model_free(m);
}

// What networks section 11 promises: training keeps at most 1.2 times the convolution outputs.
static void kept_memory(void **state)
{
    (void)state;
    static const int64_t conv_outputs[4] = {5666816, 14930944, 33046528, 40531968};
    for (int v = 0; v < 4; v++) {
        usplit_model_options o;
        usplit_model *m;
        usplit_model_cost c = {.struct_size = sizeof c};
        must(usplit_model_options_init(&o, sizeof o));
        o.variant = v;
        must(usplit_model_create(&m, context, &o));
        must(usplit_model_plan(m, USPLIT_MODE_TRAIN, 1, 0, &c));
        assert_true((double)c.kept_bytes <= 1.2 * 4 * (double)conv_outputs[v]);
        usplit_model_free(m);
    }
}

static void status_names(void **state)
{
    (void)state;
    assert_string_equal(usplit_status_name(USPLIT_OK), "ok");
    assert_string_equal(usplit_status_name(12345), "unknown status");
    assert_int_equal(usplit_version(), USPLIT_VERSION_NUMBER);
    usplit_context_free(NULL);
    usplit_model_free(NULL);
    usplit_dataset_free(NULL);
    usplit_trainer_free(NULL);
    usplit_tiler_free(NULL);
    usplit_trainer_cancel(NULL);
    usplit_tiler_cancel(NULL);
}

static int begin(void **state)
{
    usplit_context_options o;
    usplit_context_options_init(&o, sizeof o);
    o.threads = 1;
    o.device = "cpu";
    return usplit_context_create(&context, &o) != USPLIT_OK || make_folder(state) != 0;
}

static int end(void **state)
{
    (void)state;
    usplit_context_free(context);
    return rmdir(folder);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest plugin_tests[] = {
        cmocka_unit_test(plugin_is_found), cmocka_unit_test(device_list), cmocka_unit_test(devices),
    };
    finds_plugin = argc > 1 && strcmp(argv[1], "with-plugin") == 0;
    if (finds_plugin) {
        return cmocka_run_group_tests_name("api, with the plug-in", plugin_tests, begin, end);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices),        cmocka_unit_test(struct_sizes),
        cmocka_unit_test(device_list),    cmocka_unit_test(with_plugin),
        cmocka_unit_test(parameters_by_name), cmocka_unit_test(normalisation_is_checked),
        cmocka_unit_test(files),          cmocka_unit_test(plans),
        cmocka_unit_test(kept_memory),    cmocka_unit_test(status_names),
    };
    return cmocka_run_group_tests_name("api", tests, begin, end);
}
