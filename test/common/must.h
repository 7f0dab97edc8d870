// What tests demand of the library's answers, and of numbers. test/common holds what several test programs share: headers
// only, so that each of them is compiled from one file.
#ifndef TEST_MUST_H
#define TEST_MUST_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <usplit.h>

static inline void must(usplit_status status)
{
    if (status != USPLIT_OK) {
        fail_msg("status %d: %s", status, usplit_error_message());
    }
}

// This failure, and a message of one line that holds `words`.
static inline void refused(usplit_status got, usplit_status expected, const char *words)
{
    assert_int_equal(got, expected);
    if (!strstr(usplit_error_message(), words)) {
        fail_msg("'%s' is not in '%s'", words, usplit_error_message());
    }
    assert_null(strchr(usplit_error_message(), '\n'));
}

static inline void near(double got, double expected, double tolerance)
{
    if (!(fabs(got - expected) <= tolerance)) {
        fail_msg("%.9g, expected %.9g within %g", got, expected, tolerance);
    }
}

#endif
