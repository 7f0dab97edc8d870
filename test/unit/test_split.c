// Which frames train, validate and test: the tables of data section 2.2, unequal fractions, explicit lists.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/dataset_impl.h"

// "0-2,7" of the sets' frames.
static void write_ranges(const int64_t *frames, int64_t n, char *text, size_t room)
{
    size_t used = 0;
    text[0] = '\0';
    for (int64_t i = 0; i < n;) {
        int64_t end = i;
        while (end + 1 < n && frames[end + 1] == frames[end] + 1) {
            end++;
        }
        used += (size_t)snprintf(text + used, room - used, i ? ",%d" : "%d", (int)frames[i]);
        if (end > i) {
            used += (size_t)snprintf(text + used, room - used, "-%d", (int)frames[end]);
        }
        i = end + 1;
    }
}

static usplit_status split(int64_t n, const usplit_dataset_options *o, char text[4][256])
{
    int64_t *set[4] = {NULL, NULL, NULL, NULL}, count[4];
    usplit_status status = us_data_split(NULL, n, o, set, count);
    for (int s = 0; s < 4; s++) {
        if (status == USPLIT_OK) {
            write_ranges(set[s], count[s], text[s], 256);
        }
        us_free(NULL, set[s]);
    }
    return status;
}

static void check(int rule, int64_t n, double validation, double test, const char *train_text,
                  const char *validation_text, const char *test_text)
{
    usplit_dataset_options o;
    char text[4][256];
    assert_int_equal(usplit_dataset_options_init(&o, sizeof o), USPLIT_OK);
    o.split = rule;
    o.validation_fraction = validation;
    o.test_fraction = test;
    assert_int_equal(split(n, &o, text), USPLIT_OK);
    assert_string_equal(text[USPLIT_SET_TRAIN], train_text);
    assert_string_equal(text[USPLIT_SET_VALIDATION], validation_text);
    assert_string_equal(text[USPLIT_SET_TEST], test_text);
}

static void test_published_tables(void **state)
{
    (void)state;
    const int a = USPLIT_SPLIT_INTERLEAVED, b = USPLIT_SPLIT_SEQUENTIAL;
    check(a, 1, 0.1, 0.1, "0", "", "");
    check(a, 10, 0.1, 0.1, "2-9", "0", "1");
    check(a, 20, 0.1, 0.1, "4-19", "0-1", "2-3");
    check(a, 30, 0.1, 0.1, "6-29", "0-2", "3-5");
    check(a, 40, 0.1, 0.1, "8-39", "0-2,7", "3-6");
    check(a, 61, 0.1, 0.1, "12-60", "0-2,6-8", "3-5,9-11");
    check(a, 62, 0.1, 0.1, "12-61", "0-2,6-8", "3-5,9-11");
    check(a, 80, 0.1, 0.1, "16-79", "0-2,6-8,12-14", "3-5,9-11,15");
    check(a, 100, 0.1, 0.1, "20-99", "0-2,6-8,12-14,19", "3-5,9-11,15-18");
    check(a, 5, 0.0, 0.0, "0-4", "", "");
    check(b, 100, 0.1, 0.1, "20-99", "10-19", "0-9");
    check(b, 12, 0.1, 0.1, "2-11", "1", "0");
}

static void test_critters_split(void **state)
{
    (void)state;
    usplit_dataset_options o;
    int64_t *set[4] = {NULL, NULL, NULL, NULL}, count[4];
    assert_int_equal(usplit_dataset_options_init(&o, sizeof o), USPLIT_OK);
    assert_int_equal(us_data_split(NULL, 1000, &o, set, count), USPLIT_OK);
    assert_int_equal(count[USPLIT_SET_TRAIN], 800);
    assert_int_equal(count[USPLIT_SET_VALIDATION], 100);
    assert_int_equal(count[USPLIT_SET_TEST], 100);
    assert_int_equal(set[USPLIT_SET_TRAIN][0], 200);
    assert_int_equal(set[USPLIT_SET_VALIDATION][99], 199);
    assert_int_equal(set[USPLIT_SET_TEST][99], 198);
    for (int s = 0; s < 4; s++) {
        us_free(NULL, set[s]);
    }
}

// Counts as asked for, the training frames as published, nothing shuffled.
static void test_unequal_fractions(void **state)
{
    (void)state;
    const int a = USPLIT_SPLIT_INTERLEAVED, b = USPLIT_SPLIT_SEQUENTIAL;
    check(a, 50, 0.1, 0.2, "15-49", "0-2,9-10", "3-8,11-14");
    check(a, 20, 0.2, 0.0, "4-19", "0-3", "");
    check(a, 20, 0.0, 0.2, "4-19", "", "0-3");
    check(b, 50, 0.1, 0.2, "15-49", "10-14", "0-9");
    check(b, 20, 0.2, 0.0, "4-19", "0-3", "");
    for (int n = 1; n < 60; n++) { // every frame in one set, counts near the shares
        for (int k = 0; k < 25; k++) {
            usplit_dataset_options o;
            int64_t *set[4] = {NULL, NULL, NULL, NULL}, count[4];
            int seen[60] = {0};
            assert_int_equal(usplit_dataset_options_init(&o, sizeof o), USPLIT_OK);
            o.validation_fraction = (k / 5) * 0.12;
            o.test_fraction = (k % 5) * 0.12;
            usplit_status status = us_data_split(NULL, n, &o, set, count);
            assert_int_equal(status, USPLIT_OK);
            assert_int_equal(count[1] + count[2] + count[3], n);
            for (int s = 1; s < 4; s++) {
                for (int64_t i = 0; i < count[s]; i++) {
                    assert_int_equal(seen[set[s][i]]++, 0);
                    assert_true(i == 0 || set[s][i] > set[s][i - 1]);
                }
            }
            double want = o.validation_fraction * n;
            assert_true((double)count[USPLIT_SET_VALIDATION] > want - 3.0);
            assert_true((double)count[USPLIT_SET_VALIDATION] < want + 3.0);
            for (int s = 0; s < 4; s++) {
                us_free(NULL, set[s]);
            }
        }
    }
}

static void test_lists(void **state)
{
    (void)state;
    const int64_t train[3] = {4, 2, 0}, validation[1] = {3}, test[2] = {1, 3};
    char text[4][256];
    usplit_dataset_options o;
    assert_int_equal(usplit_dataset_options_init(&o, sizeof o), USPLIT_OK);
    o.train_frames = train;
    o.n_train_frames = 3;
    o.validation_frames = validation;
    o.n_validation_frames = 1;
    o.validation_fraction = 7.0; // not looked at
    assert_int_equal(split(5, &o, text), USPLIT_OK);
    assert_string_equal(text[USPLIT_SET_TRAIN], "4,2,0"); // order kept
    assert_string_equal(text[USPLIT_SET_VALIDATION], "3");
    assert_string_equal(text[USPLIT_SET_TEST], "");
    assert_string_equal(text[USPLIT_SET_ALL], "0-4");

    o.test_frames = test;
    o.n_test_frames = 2;
    assert_int_equal(split(5, &o, text), USPLIT_ERR_ARGUMENT);
    assert_non_null(
        strstr(usplit_error_message(), "frame 3 is in the validation set and again in the test set"));
    o.n_test_frames = 1;
    assert_int_equal(split(4, &o, text), USPLIT_ERR_ARGUMENT);
    assert_non_null(strstr(usplit_error_message(), "frame 4"));
    o.n_test_frames = -1;
    assert_int_equal(split(5, &o, text), USPLIT_ERR_ARGUMENT);
    o.n_test_frames = 0;
    o.train_frames = NULL;
    assert_int_equal(split(5, &o, text), USPLIT_ERR_ARGUMENT);
    o.n_train_frames = 0;
    assert_int_equal(split(5, &o, text), USPLIT_ERR_ARGUMENT);
    assert_non_null(strstr(usplit_error_message(), "training set is empty"));
    const int64_t twice[2] = {1, 1};
    o.train_frames = twice;
    o.n_train_frames = 2;
    assert_int_equal(split(5, &o, text), USPLIT_ERR_ARGUMENT);
}

static void test_bad_fractions(void **state)
{
    (void)state;
    const double bad[6][2] = {{-0.1, 0.1}, {0.1, -0.1}, {1.0, 0.0}, {0.5, 0.5}, {0.1, 2.0}, {0.1, NAN}};
    char text[4][256];
    usplit_dataset_options o;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(usplit_dataset_options_init(&o, sizeof o), USPLIT_OK);
        o.validation_fraction = bad[i][0];
        o.test_fraction = bad[i][1];
        assert_int_equal(split(20, &o, text), USPLIT_ERR_ARGUMENT);
    }
    assert_int_equal(usplit_dataset_options_init(&o, sizeof o), USPLIT_OK);
    o.split = 2;
    assert_int_equal(split(20, &o, text), USPLIT_ERR_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_tables),  cmocka_unit_test(test_critters_split),
        cmocka_unit_test(test_unequal_fractions), cmocka_unit_test(test_lists),
        cmocka_unit_test(test_bad_fractions),
    };
    return cmocka_run_group_tests_name("split", tests, NULL, NULL);
}
