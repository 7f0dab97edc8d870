// usplit check: a good file passes; one with a single damaged parameter, under a valid digest, fails with status 1; one
// without a self-test, and wrong usage, are refused. And what the library reports.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "common/folder.h"
#include "common/must.h"
#include "unit/ckpt_edit.h"

static const char *good, *bad, *bare;
static usplit_context *context;

// The program's answer; its words on standard output go nowhere.
static int check(const char *file, const char *option)
{
    char name[256], more[32], device[] = "--device", cpu[] = "cpu";
    snprintf(name, sizeof name, "%s", file);
    snprintf(more, sizeof more, "%s", option);
    char *arguments[] = {name, device, cpu, more, NULL};
    cli_error_clear();
    fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    assert_non_null(freopen("/dev/null", "w", stdout));
    int rc = cmd_check(option[0] ? 4 : 3, arguments);
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    return rc;
}

static void passes_and_fails(void **state)
{
    (void)state;
    assert_int_equal(check(good, ""), CLI_OK);
    assert_int_equal(check(good, "--json"), CLI_OK);
    assert_int_equal(check(bad, ""), CLI_FAILED);
    assert_non_null(strstr(cli_error_line(), "accepted: 0.001"));
    assert_int_equal(check(bad, "--json"), CLI_FAILED);
    assert_int_equal(check(bare, ""), CLI_FAILED);
    assert_non_null(strstr(cli_error_line(), "no self-test"));
    assert_int_equal(check("/nowhere.h5", ""), CLI_FAILED);
    assert_int_equal(check(good, "--nonsense"), CLI_USAGE);
    assert_int_equal(check(good, bad), CLI_USAGE);
}

static void told_by_the_library(void **state)
{
    (void)state;
    const char *files[] = {good, bad};
    for (int i = 0; i < 2; i++) {
        usplit_model *m = NULL;
        usplit_model_check_facts f = {.struct_size = sizeof f};
        double error = -1;
        must(usplit_model_load(&m, context, files[i]));
        must(usplit_model_check_report(m, &f));
        assert_true(f.values == 16 * 16 * 4 && f.tolerance == 1e-3 && f.passed == (i == 0));
        assert_true(i == 0 ? f.error <= 1e-3 : f.error > 1e-3);
        assert_int_equal(usplit_model_check(m, &error), i == 0 ? USPLIT_OK : USPLIT_ERR_NUMERIC);
        assert_true(error == f.error);
        assert_int_equal(usplit_model_check_report(m, NULL), USPLIT_ERR_ARGUMENT);
        assert_int_equal(usplit_model_check_report(NULL, &f), USPLIT_ERR_ARGUMENT);
        usplit_model_free(m);
    }
}

static int make_files(void **state)
{
    (void)state;
    usplit_context_options co;
    usplit_model_options mo;
    usplit_model *m = NULL;
    const char *name;
    int64_t shape[4];
    int32_t n_dims;
    char path[256];
    float damage = 0.4f;
    assert_int_equal(make_folder(state), 0);
    good = in_folder("good.h5");
    bad = in_folder("bad.h5");
    bare = in_folder("bare.h5");
    must(usplit_context_options_init(&co, sizeof co));
    co.device = "cpu";
    co.threads = 1;
    must(usplit_context_create(&context, &co));
    must(usplit_model_options_init(&mo, sizeof mo));
    mo.levels = 2;
    mo.filters = 4;
    mo.z_dims[0] = 4;
    mo.patch = 16;
    must(usplit_model_create(&m, context, &mo));
    must(usplit_model_save(m, good));
    must(usplit_model_get_entry(m, 0, &name, shape, &n_dims));
    snprintf(path, sizeof path, "parameters/%s", name);     // one value of the first convolution
    usplit_model_free(m);
    return edit_checkpoint(good, bad, path, 0, &damage) && edit_checkpoint(good, bare, "selftest/", 0, NULL) ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    static const char *const names[] = {"good.h5", "bad.h5", "bare.h5"};
    usplit_context_free(context);
    return remove_files(names, sizeof names / sizeof names[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passes_and_fails),
        cmocka_unit_test(told_by_the_library),
    };
    return cmocka_run_group_tests(tests, make_files, end);
}
