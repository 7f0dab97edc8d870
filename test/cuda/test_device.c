// The emulated device (cuda/emulate.h): conversions, launches, what it must catch, memory, recordings. If these
// hold, the other tests of this folder can trust it.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "emulate.h"
#include "kernels/philox.h"
#include "probe.h"

static us_stream *stream;

static void must(const char *error)
{
    if (error) {
        fail_msg("%s", error);
    }
}

static void refused(const char *error, const char *words)
{
    assert_non_null(error);
    if (!strstr(error, words)) {
        fail_msg("'%s' does not say '%s'", error, words);
    }
}

static void *device(int64_t bytes)
{
    void *block;
    must(us_device_alloc(&block, bytes));
    return block;
}

static uint32_t word(uint32_t index)
{
    return us_philox(99, index, 0, 0, 0).v[0];
}

static int start(void **state)
{
    (void)state;
    us_emulate_shuffle(0);
    return us_stream_create(&stream) != NULL;
}

// No test leaves anything behind.
static int finish(void **state)
{
    (void)state;
    us_stream_free(stream);
    return us_emulate_leaks() != 0 || us_emulate_handles() != 0;
}

// ---- Half precision -----------------------------------------------------------------------------------------

// By the definition, in double: sign * m * 2^(e - 25), m of 11 bits.
static double value_of(uint16_t h)
{
    int e = (h >> 10) & 31, m = h & 1023;
    double v = e == 31 ? (m ? (double)NAN : (double)INFINITY) : ldexp(e ? m + 1024 : m, (e ? e : 1) - 25);
    return h & 0x8000 ? -v : v;
}

static void half_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = us_half_bits_value((uint16_t)h);
        if (isnan(value_of((uint16_t)h))) {
            assert_true(isnan(f));
            assert_int_equal(us_half_bits_of(f), 0x7fff);
        } else {
            assert_true((double)f == value_of((uint16_t)h) && !signbit(f) == !(h & 0x8000));
            assert_int_equal(us_half_bits_of(f), h);
        }
    }
}

// |f| in halves, by rounding a multiple of the step of its binade: rint() is to nearest, ties to even.
static uint16_t half_by_definition(float f)
{
    double a = fabs((double)f);
    uint16_t sign = signbit(f) ? 0x8000 : 0;
    int e;
    frexp(a, &e);
    e = e < -13 ? -13 : e;
    double r = ldexp(rint(ldexp(a, 11 - e)), e - 11);
    if (isinf(a) || r >= 65536.0) {
        return sign | 0x7c00;
    }
    int low = 0, high = 0x7c00;             // the half that has this value: they ascend with their bits
    while (low < high) {
        int mid = (low + high) / 2;
        if (value_of((uint16_t)mid) < r) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return (uint16_t)(sign | low);
}

static void check_half(float f)
{
    if (!isnan(f) && us_half_bits_of(f) != half_by_definition(f)) {
        fail_msg("%a gives half %04x, not %04x", (double)f, us_half_bits_of(f), half_by_definition(f));
    }
}

static void half_of_floats(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 200000; i++) {
        uint32_t bits = word(i);
        if (i & 1) {                        // every other one in the range of halves, denormal ones included
            bits = (bits & 0x807fffffu) | ((bits >> 8) % 46 + 98) << 23;
        }
        float f;
        memcpy(&f, &bits, sizeof f);
        check_half(f);
    }
    for (uint16_t h = 0; h < 0x7c00; h++) {     // ties, and their neighbours
        float tie = (float)(0.5 * (value_of(h) + (h == 0x7bff ? 65536.0 : value_of((uint16_t)(h + 1)))));
        check_half(tie);
        check_half(-tie);
        check_half(nextafterf(tie, 0.0f));
        check_half(nextafterf(tie, INFINITY));
    }
    assert_int_equal(us_half_bits_of(INFINITY), 0x7c00);
    assert_int_equal(us_half_bits_of(-INFINITY), 0xfc00);
    assert_int_equal(us_half_bits_of(NAN), 0x7fff);
}

static void half_in_kernels(void **state)
{
    (void)state;
    enum { N = 1000 };
    float host[N], back[N];
    float *in = device(4 * N), *out = device(4 * N);
    void *half = device(2 * N);
    for (uint32_t i = 0; i < N; i++) {
        host[i] = ((float)word(i) / 4294967296.0f - 0.5f) * 100.0f;
    }
    must(us_copy_up(stream, in, host, sizeof host));
    must(us_probe_half(stream, in, half, out, N));
    must(us_copy_down(stream, back, out, sizeof back));
    for (int i = 0; i < N; i++) {
        assert_true((double)back[i] == value_of(half_by_definition(host[i])));
    }
    us_device_free(in);
    us_device_free(out);
    us_device_free(half);
}

// ---- Launches -----------------------------------------------------------------------------------------------

typedef struct summing {
    float *x, *partials, *sum;
    unsigned *counter;
    int n, blocks, threads;
} summing;

static summing summing_new(int n, int blocks, int threads)
{
    summing s = {device(4 * n), device(4 * blocks), device(4), device(4), n, blocks, threads};
    float *host = test_malloc(4 * (size_t)n);
    for (int i = 0; i < n; i++) {
        host[i] = (float)word((uint32_t)i) / 4294967296.0f;
    }
    must(us_copy_up(stream, s.x, host, 4 * n));
    must(us_fill_zero(stream, s.counter, 4));
    test_free(host);
    return s;
}

static void summing_free(summing *s)
{
    us_device_free(s->x);
    us_device_free(s->partials);
    us_device_free(s->sum);
    us_device_free(s->counter);
}

static float ordered_sum(const summing *s)
{
    float sum;
    must(us_probe_sum(stream, s->x, s->n, s->blocks, s->threads, s->partials, s->counter, s->sum));
    must(us_copy_down(stream, &sum, s->sum, 4));
    return sum;
}

static float racing_sum(const summing *s)
{
    float sum;
    must(us_fill_zero(stream, s->sum, 4));
    must(us_probe_racing_sum(stream, s->x, s->n, s->blocks, s->threads, s->sum));
    must(us_copy_down(stream, &sum, s->sum, 4));
    return sum;
}

static void order_of_blocks(void **state)
{
    (void)state;
    const int shapes[][3] = {{1000, 7, 32}, {12345, 33, 128}, {5, 3, 8}, {4096, 1, 1024}, {777, 50, 1}};
    int moved = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        summing s = summing_new(shapes[i][0], shapes[i][1], shapes[i][2]);
        us_emulate_shuffle(0);
        float first = ordered_sum(&s), racing = racing_sum(&s);
        // Uniform in [0, 1): the mean's standard deviation is 0.29 / sqrt(n); six of them.
        assert_float_equal(first / (float)s.n, 0.5f, 1.8 / sqrt((double)s.n));
        for (uint64_t seed = 1; seed <= 20; seed++) {
            us_emulate_shuffle(seed);
            float again = ordered_sum(&s), other = racing_sum(&s);
            assert_memory_equal(&again, &first, sizeof again);
            moved += memcmp(&other, &racing, sizeof other) != 0;
        }
        summing_free(&s);
    }
    us_emulate_shuffle(0);
    assert_true(moved > 20);        // a sum that depends on the order is seen to
}

static void arguments(void **state)
{
    (void)state;
    us_probe_pack pack = {'x', -1.5, -300, INT64_C(-5000000000)};
    double *out = device(6 * 8), back[6];
    must(us_probe_arguments(stream, pack, out, 0.25f, INT64_C(6000000000)));
    must(us_copy_down(stream, back, out, sizeof back));
    const double want[6] = {'x', -1.5, -300.0, -5e9, 0.25, 6e9};
    assert_memory_equal(back, want, sizeof want);
    us_device_free(out);
}

static void barriers(void **state)
{
    (void)state;
    int *out = device(4), wrong;
    must(us_fill_zero(stream, out, 4));
    for (uint64_t seed = 0; seed < 3; seed++) {
        us_emulate_shuffle(seed);
        must(us_probe_barriers(stream, 3, 1, 5, 0, out));
        must(us_probe_barriers(stream, 3, 37, 5, 0, out));
        must(us_probe_barriers(stream, 2, 1024, 20, 0, out));
        must(us_probe_barriers(stream, 2, 64, 2, 64, out));
        refused(us_probe_barriers(stream, 2, 64, 2, 1, out), "barriers: block");
        refused(us_probe_barriers(stream, 2, 64, 0, 63, out), "one thread met 0 barriers, another 1");
    }
    must(us_copy_down(stream, &wrong, out, 4));
    assert_int_equal(wrong, 0);
    us_device_free(out);
}

static void shared_memory(void **state)
{
    (void)state;
    float *out = device(4), back;
    must(us_probe_shared(stream, 20, 4, 4, out));
    must(us_copy_down(stream, &back, out, 4));
    assert_true(back == 1.0f);
    must(us_probe_shared(stream, 20, 4, 3, out));           // never written
    must(us_copy_down(stream, &back, out, 4));
    assert_true(isnan(back));
    refused(us_probe_shared(stream, 20, 5, 0, out), "shared: block 0: wrote outside its 20 bytes");
    refused(us_probe_shared(stream, 20, -1, 0, out), "wrote outside");
    must(us_probe_shared(stream, 20, 0, 0, out));           // and works again
    us_device_free(out);
}

static void bad_launches(void **state)
{
    (void)state;
    us_device_facts facts;
    must(us_device_facts_get(0, &facts));
    must(us_probe_size(stream, 1, 1024, facts.shared_bytes));
    refused(us_probe_size(stream, 1, 1, facts.shared_bytes + 1), "shared memory");
    refused(us_probe_size(stream, 0, 1, 0), "nothing: invalid launch of 0 blocks");
    refused(us_probe_size(stream, INT64_C(1) << 31, 1, 0), "invalid launch");
    refused(us_probe_size(stream, 1, 1025, 0), "1025 threads");
    refused(us_probe_size(stream, 1, 0, 0), "invalid launch");
    float *x = device(4 * 16);
    must(us_probe_store8(stream, x + 8));
    refused(us_probe_store8(stream, x + 7), "store_eight: block 0: 8 elements");
    us_device_free(x);
}

// ---- Memory -------------------------------------------------------------------------------------------------

static void memory(void **state)
{
    (void)state;
    us_device_facts facts;
    int64_t before;
    void *a, *b;
    must(us_device_facts_get(-1, &facts));
    assert_int_equal(facts.count, 1);
    must(us_device_facts_get(0, &facts));
    before = facts.total_bytes;
    us_emulate_memory(1000);
    must(us_device_alloc(&a, 900));
    assert_int_equal(us_emulate_leaks(), 900);
    refused(us_device_alloc(&b, 101), "101 bytes: out of memory");
    assert_null(b);
    must(us_device_alloc(&b, 100));
    must(us_device_facts_get(0, &facts));
    assert_true(facts.total_bytes == 1000 && facts.free_bytes == 0);
    us_device_free(b);
    us_device_free(a);
    us_device_free(NULL);
    us_emulate_memory(before);
    assert_int_equal(us_emulate_leaks(), 0);
    refused(us_device_use(1), "no device 1");
}

static void stray_access(void **state)
{
    (void)state;
    float *x = device(40), *y = device(40), back[11], *pinned;
    must(us_copy_down(stream, back, x, 40));
    for (int i = 0; i < 10; i++) {
        assert_true(isnan(back[i]));                        // fresh
    }
    must(us_probe_write(stream, x, 9, 1.0f));
    refused(us_probe_write(stream, x, 10, 1.0f), "write_one: wrote after a device block of 40 bytes");
    refused(us_probe_write(stream, y, -1, 1.0f), "wrote before");
    must(us_probe_write(stream, x, 0, 1.0f));
    refused(us_copy_down(stream, back, x, 44), "us_copy_down: 44 bytes");
    refused(us_copy_up(stream, x + 1, back, 40), "not in a device block");
    refused(us_copy_up(stream, back, x, 40), "not in a device block");
    refused(us_copy_down(stream, y, x, 40), "is device memory");
    refused(us_copy_across(stream, y, back, 40), "not in a device block");
    refused(us_fill_zero(stream, back, 4), "not in a device block");
    must(us_pinned_alloc((void **)&pinned, 40));
    refused(us_fill_zero(stream, pinned, 4), "not in a device block");
    must(us_copy_down(stream, pinned, x, 40));
    assert_true(pinned[0] == 1.0f && pinned[9] == 1.0f && isnan(pinned[5]));
    assert_int_equal(us_emulate_handles(), 2);              // pinned, and the stream
    us_pinned_free(pinned);
    us_device_free(x);
    us_device_free(y);
}

// ---- Recordings and events ------------------------------------------------------------------------------------

static void recordings(void **state)
{
    (void)state;
    float *x = device(8), *y = device(8), back[2], *pinned;
    us_recording *r;
    must(us_pinned_alloc((void **)&pinned, 8));
    must(us_record_begin(stream));
    must(us_copy_up(stream, x, pinned, 8));
    must(us_probe_write(stream, x, 1, 5.0f));
    must(us_copy_across(stream, y, x, 8));
    must(us_fill_zero(stream, x, 8));
    must(us_record_end(stream, &r));
    assert_int_equal(us_record_nodes(r), 4);
    must(us_copy_down(stream, back, y, 8));
    assert_true(isnan(back[0]) && isnan(back[1]));          // nothing ran yet
    for (int i = 0; i < 3; i++) {
        pinned[0] = (float)i;
        must(us_record_run(r, stream));
        must(us_stream_wait(stream));
        must(us_copy_down(stream, back, y, 8));
        assert_true(back[0] == (float)i && back[1] == 5.0f);
        must(us_copy_down(stream, back, x, 8));
        assert_true(back[0] == 0.0f && back[1] == 0.0f);
    }
    us_record_free(r);
    us_pinned_free(pinned);
    us_device_free(x);
    us_device_free(y);
}

static void not_in_recordings(void **state)
{
    (void)state;
    float *x = device(8), host[2] = {0, 0};
    us_recording *r;
    us_event *e;
    void *block;
    must(us_event_create(&e));
    refused(us_record_end(stream, &r), "not recording");
    must(us_record_begin(stream));
    refused(us_record_begin(stream), "us_record_begin");
    refused(us_device_alloc(&block, 4), "us_device_alloc: not while");
    refused(us_pinned_alloc(&block, 4), "us_pinned_alloc: not while");
    refused(us_stream_wait(stream), "us_stream_wait: not while");
    refused(us_event_record(e, stream), "us_event_record: not while");
    refused(us_event_wait(e), "us_event_wait: not while");
    refused(us_copy_up(stream, x, host, 8), "only pinned");
    us_device_free(x);                                      // cannot say so itself
    refused(us_record_end(stream, &r), "us_device_free while");
    assert_null(r);
    x = device(8);
    must(us_record_begin(stream));
    must(us_probe_write(stream, x, 2, 0.0f));
    must(us_record_end(stream, &r));
    refused(us_record_run(r, stream), "wrote after");       // errors of kernels come when they run
    us_record_free(r);
    us_event_free(e);
    us_device_free(x);
    us_stream *left;
    must(us_stream_create(&left));
    must(us_record_begin(left));
    us_stream_free(left);                                   // ends the recording
    must(us_stream_wait(stream));
}

static void events(void **state)
{
    (void)state;
    us_event *a, *b;
    double seconds;
    must(us_event_create(&a));
    must(us_event_create(&b));
    must(us_event_wait(a));
    refused(us_event_seconds(a, b, &seconds), "never recorded");
    must(us_event_record(a, stream));
    must(us_stream_after(stream, a));
    must(us_event_record(b, stream));
    must(us_event_wait(b));
    must(us_event_seconds(a, b, &seconds));
    assert_true(seconds >= 0.0 && seconds < 60.0);
    us_event_free(a);
    us_event_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(half_round_trip, start, finish),
        cmocka_unit_test_setup_teardown(half_of_floats, start, finish),
        cmocka_unit_test_setup_teardown(half_in_kernels, start, finish),
        cmocka_unit_test_setup_teardown(order_of_blocks, start, finish),
        cmocka_unit_test_setup_teardown(arguments, start, finish),
        cmocka_unit_test_setup_teardown(barriers, start, finish),
        cmocka_unit_test_setup_teardown(shared_memory, start, finish),
        cmocka_unit_test_setup_teardown(bad_launches, start, finish),
        cmocka_unit_test_setup_teardown(memory, start, finish),
        cmocka_unit_test_setup_teardown(stray_access, start, finish),
        cmocka_unit_test_setup_teardown(recordings, start, finish),
        cmocka_unit_test_setup_teardown(not_in_recordings, start, finish),
        cmocka_unit_test_setup_teardown(events, start, finish),
    };
    return cmocka_run_group_tests_name("device", tests, NULL, NULL);
}
