// The stack machine. Every read is checked against the pickle's end, every pop against the last mark, every number of
// the memo against the pickle's length: an honest writer numbers from 0, a byte or more each.
#include "cli/import/pickle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/import/zip.h"

// The names that mean something.
enum { KNOWN_NONE, KNOWN_TENSOR, KNOWN_PARAMETER, KNOWN_ORDERED, KNOWN_DEFAULT };
static const struct {
    const char *module, *name;
    uint8_t known;
} known_names[] = {
    {"torch._utils", "_rebuild_tensor_v2", KNOWN_TENSOR},
    {"torch._utils", "_rebuild_parameter", KNOWN_PARAMETER},
    {"collections", "OrderedDict", KNOWN_ORDERED},
    {"collections", "defaultdict", KNOWN_DEFAULT},
};

// The opcodes of protocols 2 to 5 that build data, by the names of Python's pickletools.
enum {
    OP_MARK = '(', OP_STOP = '.', OP_POP = '0', OP_POP_MARK = '1', OP_NONE = 'N', OP_NEWTRUE = 0x88, OP_NEWFALSE = 0x89,
    OP_BININT = 'J', OP_BININT1 = 'K', OP_BININT2 = 'M', OP_LONG1 = 0x8a, OP_LONG4 = 0x8b, OP_BINFLOAT = 'G',
    OP_BINUNICODE = 'X', OP_SHORT_BINUNICODE = 0x8c, OP_BINUNICODE8 = 0x8d, OP_BINSTRING = 'T',
    OP_SHORT_BINSTRING = 'U', OP_BINBYTES = 'B', OP_SHORT_BINBYTES = 'C', OP_BINBYTES8 = 0x8e,
    OP_EMPTY_TUPLE = ')', OP_TUPLE = 't', OP_TUPLE1 = 0x85, OP_TUPLE2 = 0x86, OP_TUPLE3 = 0x87,
    OP_EMPTY_LIST = ']', OP_LIST = 'l', OP_APPEND = 'a', OP_APPENDS = 'e', OP_EMPTY_DICT = '}', OP_DICT = 'd',
    OP_SETITEM = 's', OP_SETITEMS = 'u', OP_EMPTY_SET = 0x8f, OP_ADDITEMS = 0x90, OP_FROZENSET = 0x91,
    OP_GLOBAL = 'c', OP_STACK_GLOBAL = 0x93, OP_REDUCE = 'R', OP_BUILD = 'b', OP_NEWOBJ = 0x81, OP_NEWOBJ_EX = 0x92,
    OP_BINPERSID = 'Q', OP_BINPUT = 'q', OP_LONG_BINPUT = 'r', OP_BINGET = 'h', OP_LONG_BINGET = 'j',
    OP_MEMOIZE = 0x94, OP_PROTO = 0x80, OP_FRAME = 0x95
};

enum { MOST_PROTOCOL = 5, NOBODY = -1 };

static int bad(const pickle *p, const char *why)
{
    cli_error(CLI_FAILED, "%s cannot be read: %s (byte %zu of %zu of its pickle)", p->what, why, p->at, p->n_bytes);
    return CLI_FAILED;
}

// ---- Memory -----------------------------------------------------------------------------------------------------

// Room for one more in an array that doubles.
static int make_room(void **array, uint32_t *room, uint32_t n, size_t size)
{
    if (n < *room) {
        return CLI_OK;
    }
    uint32_t wanted = *room == 0 ? 4 : *room * 2;
    void *larger = n < UINT32_MAX / 2 ? realloc(*array, (size_t)wanted * size) : NULL;
    if (larger == NULL) {
        cli_error(CLI_FAILED, "out of memory: %.1f MB asked for", (double)wanted * (double)size / 1e6);
        return CLI_FAILED;
    }
    *array = larger;
    *room = wanted;
    return CLI_OK;
}

static int push_number(uint32_t **array, uint32_t *room, uint32_t *n, uint32_t number)
{
    void *block = *array;
    int rc = make_room(&block, room, *n, sizeof number);
    *array = block;
    if (rc == CLI_OK) {
        (*array)[(*n)++] = number;
    }
    return rc;
}

static int push(pickle *p, uint32_t number)
{
    return push_number(&p->stack, &p->room_stack, &p->n_stack, number);
}

static int new_value(pickle *p, pickle_value value, uint32_t *number)
{
    void *block = p->values;
    int rc = make_room(&block, &p->room_values, p->n_values, sizeof *p->values);
    p->values = block;
    if (rc == CLI_OK) {
        *number = p->n_values;
        p->values[p->n_values++] = value;
    }
    return rc;
}

static int push_new(pickle *p, pickle_value value)
{
    uint32_t number;
    int rc = new_value(p, value, &number);
    return rc == CLI_OK ? push(p, number) : rc;
}

static int append(pickle_value *v, uint32_t item)
{
    return push_number(&v->items, &v->room, &v->n, item);
}

// A value with the given items.
static int new_items(pickle *p, pickle_kind kind, const uint32_t *items, uint32_t n, uint32_t *number)
{
    int rc = new_value(p, (pickle_value){.kind = (uint8_t)kind}, number);
    if (rc == CLI_OK && n > 0) {
        pickle_value *v = &p->values[*number];
        v->items = cli_alloc(n, sizeof *items);
        rc = v->items != NULL ? CLI_OK : CLI_FAILED;
        if (rc == CLI_OK) {
            memcpy(v->items, items, n * sizeof *items);
            v->n = v->room = n;
        }
    }
    return rc;
}

// ---- Reading and the stack --------------------------------------------------------------------------------------

static int take(pickle *p, size_t n, const unsigned char **bytes)
{
    if (n > p->n_bytes - p->at) {
        return bad(p, "it ends in the middle");
    }
    *bytes = p->bytes + p->at;
    p->at += n;
    return CLI_OK;
}

static int take_number(pickle *p, int n_bytes, uint64_t *number)
{
    const unsigned char *bytes;
    int rc = take(p, (size_t)n_bytes, &bytes);
    *number = rc == CLI_OK ? zip_number(bytes, n_bytes) : 0;
    return rc;
}

// Where the values since the last mark begin.
static uint32_t floor_of(const pickle *p)
{
    return p->n_marks > 0 ? p->marks[p->n_marks - 1] : 0;
}

static int pop(pickle *p, uint32_t *number)
{
    if (p->n_stack <= floor_of(p)) {
        return bad(p, "a value is missing");
    }
    *number = p->stack[--p->n_stack];
    return CLI_OK;
}

// The value that stays on the stack below those since the last mark, which is taken away: *first and *n are they.
// Their numbers stay valid until something is pushed.
static int pop_mark(pickle *p, const uint32_t **first, uint32_t *n)
{
    if (p->n_marks == 0) {
        return bad(p, "a mark is missing");
    }
    uint32_t height = p->marks[--p->n_marks];
    *first = p->stack + height;
    *n = p->n_stack - height;
    p->n_stack = height;
    return CLI_OK;
}

static int top(const pickle *p, pickle_value **v)
{
    if (p->n_stack <= floor_of(p)) {
        return bad(p, "a value is missing");
    }
    *v = &p->values[p->stack[p->n_stack - 1]];
    return CLI_OK;
}

// ---- Opcodes, by kind -------------------------------------------------------------------------------------------

// A whole number of n bytes in two's complement; one that does not fit is opaque.
static int push_long(pickle *p, uint64_t n)
{
    const unsigned char *bytes;
    int rc = take(p, n > p->n_bytes ? p->n_bytes : (size_t)n, &bytes);
    if (rc != CLI_OK) {
        return rc;
    }
    if (n > 8) {
        return push_new(p, (pickle_value){.kind = PICKLE_OPAQUE, .class_name = UINT32_MAX});
    }
    uint64_t bits = zip_number(bytes, (int)n);
    if (n > 0 && n < 8 && (bytes[n - 1] & 0x80) != 0) {
        bits |= UINT64_MAX << (8 * n);
    }
    int64_t whole;
    memcpy(&whole, &bits, sizeof whole);
    return push_new(p, (pickle_value){.kind = PICKLE_INT, .whole = whole});
}

static int push_real(pickle *p)
{
    const unsigned char *bytes;
    int rc = take(p, 8, &bytes);
    uint64_t bits = 0;
    for (int i = 0; rc == CLI_OK && i < 8; i++) {       // the one number with its high byte first
        bits = bits << 8 | bytes[i];
    }
    double real;
    memcpy(&real, &bits, sizeof real);
    return rc == CLI_OK ? push_new(p, (pickle_value){.kind = PICKLE_REAL, .real = real}) : rc;
}

// Text whose length stands in front of it in so many bytes.
static int push_text(pickle *p, int length_bytes)
{
    uint64_t n;
    const unsigned char *bytes;
    int rc;
    CLI_TRY(take_number(p, length_bytes, &n));
    CLI_TRY(take(p, n > p->n_bytes ? SIZE_MAX : (size_t)n, &bytes));
    CLI_TRY(push_new(p, (pickle_value){.kind = PICKLE_TEXT, .n = (uint32_t)n, .text = (const char *)bytes}));
done:
    return rc;
}

static int push_tuple(pickle *p, uint32_t n)
{
    uint32_t number;
    if (p->n_stack - floor_of(p) < n) {
        return bad(p, "a value is missing");
    }
    int rc = new_items(p, PICKLE_TUPLE, p->stack + p->n_stack - n, n, &number);
    p->n_stack -= n;
    return rc == CLI_OK ? push(p, number) : rc;
}

// A container of all that has been put on the stack since the last mark.
static int push_collected(pickle *p, pickle_kind kind)
{
    const uint32_t *first;
    uint32_t n, number;
    int rc;
    CLI_TRY(pop_mark(p, &first, &n));
    if (kind == PICKLE_DICT && n % 2 != 0) {
        return bad(p, "a key without a value");
    }
    CLI_TRY(new_items(p, kind == PICKLE_OPAQUE ? PICKLE_LIST : kind, first, n, &number));
    CLI_TRY(push(p, number));
done:
    return rc;
}

// Puts n values into the container on top of the stack; pairs: they are keys and values. What an opaque value is given
// one by one is not kept: only its keys are ever asked for.
static int fill(pickle *p, const uint32_t *items, uint32_t n, int pairs)
{
    pickle_value *v;
    int rc;
    CLI_TRY(top(p, &v));
    if (pairs && n % 2 != 0) {
        return bad(p, "a key without a value");
    }
    if (v->kind != PICKLE_OPAQUE && v->kind != (pairs ? PICKLE_DICT : PICKLE_LIST)) {
        return bad(p, pairs ? "keys for what is no dictionary" : "items for what is no list");
    }
    for (uint32_t i = 0; i < n && (pairs || v->kind == PICKLE_LIST); i++) {
        CLI_TRY(append(v, items[i]));
    }
done:
    return rc;
}

static int fill_last(pickle *p, uint32_t n)
{
    uint32_t items[2];
    int rc;
    for (uint32_t i = n; i-- > 0;) {
        CLI_TRY(pop(p, &items[i]));
    }
    CLI_TRY(fill(p, items, n, n == 2));
done:
    return rc;
}

static int fill_collected(pickle *p, int pairs)
{
    const uint32_t *first;
    uint32_t n;
    int rc = pop_mark(p, &first, &n);
    return rc == CLI_OK ? fill(p, first, n, pairs) : rc;
}

static int push_name(pickle *p, uint32_t module, uint32_t name)
{
    uint32_t number;
    int rc = new_items(p, PICKLE_NAME, (uint32_t[]){module, name}, 2, &number);
    for (size_t i = 0; rc == CLI_OK && i < sizeof known_names / sizeof known_names[0]; i++) {
        if (pickle_is(&p->values[module], known_names[i].module) && pickle_is(&p->values[name], known_names[i].name)) {
            p->values[number].known = known_names[i].known;
        }
    }
    return rc == CLI_OK ? push(p, number) : rc;
}

// "module\nname\n"
static int push_global(pickle *p)
{
    uint32_t parts[2];
    for (int i = 0; i < 2; i++) {
        const unsigned char *from = p->bytes + p->at, *line_end = memchr(from, '\n', p->n_bytes - p->at);
        if (line_end == NULL) {
            return bad(p, "a name does not end");
        }
        uint32_t n = (uint32_t)(line_end - from);
        int rc = new_value(p, (pickle_value){.kind = PICKLE_TEXT, .n = n, .text = (const char *)from}, &parts[i]);
        if (rc != CLI_OK) {
            return rc;
        }
        p->at += n + 1;
    }
    return push_name(p, parts[0], parts[1]);
}

static int push_stack_global(pickle *p)
{
    uint32_t name, module;
    int rc;
    CLI_TRY(pop(p, &name));
    CLI_TRY(pop(p, &module));
    if (p->values[name].kind != PICKLE_TEXT || p->values[module].kind != PICKLE_TEXT) {
        return bad(p, "a name that is not text");
    }
    CLI_TRY(push_name(p, module, name));
done:
    return rc;
}

// What a call would have made; nothing is called. n_values are popped: a keyword dictionary, arguments, the callable.
static int push_call(pickle *p, int n_values)
{
    uint32_t popped[3] = {0}, number;
    int rc;
    for (int i = n_values - 1; i >= 0; i--) {
        CLI_TRY(pop(p, &popped[i]));
    }
    const pickle_value *callable = &p->values[popped[0]], *arguments = &p->values[popped[1]];
    if (callable->kind != PICKLE_NAME || arguments->kind != PICKLE_TUPLE) {
        // a function that an opaque value gave, say
        CLI_TRY(push_new(p, (pickle_value){.kind = PICKLE_OPAQUE, .class_name = UINT32_MAX}));
        return CLI_OK;
    }
    if (callable->known == KNOWN_PARAMETER && arguments->n > 0) {
        return push(p, arguments->items[0]);
    }
    if (callable->known == KNOWN_TENSOR) {
        CLI_TRY(new_items(p, PICKLE_TENSOR, arguments->items, arguments->n, &number));
        return push(p, number);
    }
    if ((callable->known == KNOWN_ORDERED && arguments->n == 0) || callable->known == KNOWN_DEFAULT) {
        return push_new(p, (pickle_value){.kind = PICKLE_DICT});
    }
    CLI_TRY(push_new(p, (pickle_value){.kind = PICKLE_OPAQUE, .class_name = popped[0]}));
done:
    return rc;
}

// A state given to an object: an opaque one takes its keys, so that settings can be found in it. State of a dictionary
// (state_dict's versions of its modules) says nothing that is needed.
static int build(pickle *p)
{
    uint32_t state;
    pickle_value *v;
    int rc;
    CLI_TRY(pop(p, &state));
    CLI_TRY(top(p, &v));
    const pickle_value *s = &p->values[state];
    if (v->kind == PICKLE_OPAQUE && s->kind == PICKLE_DICT && v->n == 0) {
        CLI_TRY(push_number(&v->items, &v->room, &v->n, state));
    }
done:
    return rc;
}

static int push_storage(pickle *p)
{
    uint32_t id, number;
    int rc;
    CLI_TRY(pop(p, &id));
    const pickle_value *v = &p->values[id];
    if (v->kind != PICKLE_TUPLE || v->n < 5 || !pickle_is(&p->values[v->items[0]], "storage")) {
        return bad(p, "a reference to something other than a storage");
    }
    CLI_TRY(new_items(p, PICKLE_STORAGE, v->items, v->n, &number));
    CLI_TRY(push(p, number));
done:
    return rc;
}

static int memo_put(pickle *p, uint64_t place)
{
    pickle_value *v;
    int rc;
    CLI_TRY(top(p, &v));
    if (place >= p->n_bytes) {
        return bad(p, "a memo number larger than the pickle");
    }
    while (p->n_memo <= place) {
        CLI_TRY(push_number(&p->memo, &p->room_memo, &p->n_memo, UINT32_MAX));
    }
    p->memo[place] = (uint32_t)(v - p->values);
done:
    return rc;
}

static int memo_get(pickle *p, uint64_t place)
{
    if (place >= p->n_memo || p->memo[place] == UINT32_MAX) {
        return bad(p, "a memo entry that was never written");
    }
    return push(p, p->memo[place]);
}

// ---- The machine ------------------------------------------------------------------------------------------------

// Bytes of the number behind opcodes that have one.
static int number_bytes(int op)
{
    switch (op) {
    case OP_BININT1: case OP_LONG1: case OP_BINPUT: case OP_BINGET: case OP_PROTO: return 1;
    case OP_BININT2: return 2;
    case OP_BININT: case OP_LONG4: case OP_LONG_BINPUT: case OP_LONG_BINGET: return 4;
    case OP_FRAME: return 8;
    default: return 0;
    }
}

// Opcodes of plain values and of text; NOBODY: not one of them.
static int run_plain(pickle *p, int op, uint64_t number)
{
    switch (op) {
    case OP_NONE: return push_new(p, (pickle_value){.kind = PICKLE_NONE});
    case OP_NEWTRUE: return push_new(p, (pickle_value){.kind = PICKLE_BOOL, .whole = 1});
    case OP_NEWFALSE: return push_new(p, (pickle_value){.kind = PICKLE_BOOL});
    case OP_BININT1: case OP_BININT2: return push_new(p, (pickle_value){.kind = PICKLE_INT, .whole = (int64_t)number});
    case OP_BININT:
        return push_new(p, (pickle_value){.kind = PICKLE_INT,
                                          .whole = (int64_t)number - (number >> 31 ? INT64_C(1) << 32 : 0)});
    case OP_LONG1: return push_long(p, number);
    case OP_LONG4: return number >> 31 ? bad(p, "a number of a negative length") : push_long(p, number);
    case OP_BINFLOAT: return push_real(p);
    case OP_SHORT_BINUNICODE: case OP_SHORT_BINSTRING: case OP_SHORT_BINBYTES: return push_text(p, 1);
    case OP_BINUNICODE: case OP_BINSTRING: case OP_BINBYTES: return push_text(p, 4);
    case OP_BINUNICODE8: case OP_BINBYTES8: return push_text(p, 8);
    default: return NOBODY;
    }
}

// Opcodes of containers.
static int run_containers(pickle *p, int op)
{
    switch (op) {
    case OP_EMPTY_TUPLE: return push_tuple(p, 0);
    case OP_TUPLE1: case OP_TUPLE2: case OP_TUPLE3: return push_tuple(p, (uint32_t)(op - OP_TUPLE1 + 1));
    case OP_TUPLE: return push_collected(p, PICKLE_TUPLE);
    case OP_EMPTY_LIST: case OP_EMPTY_SET: return push_new(p, (pickle_value){.kind = PICKLE_LIST});
    case OP_LIST: case OP_FROZENSET: return push_collected(p, PICKLE_LIST);
    case OP_APPEND: return fill_last(p, 1);
    case OP_APPENDS: case OP_ADDITEMS: return fill_collected(p, 0);
    case OP_EMPTY_DICT: return push_new(p, (pickle_value){.kind = PICKLE_DICT});
    case OP_DICT: return push_collected(p, PICKLE_DICT);
    case OP_SETITEM: return fill_last(p, 2);
    case OP_SETITEMS: return fill_collected(p, 1);
    default: return NOBODY;
    }
}

// Opcodes of names and objects, of the stack and the memo.
static int run_others(pickle *p, int op, uint64_t number)
{
    uint32_t unused;
    const uint32_t *first;
    switch (op) {
    case OP_MARK: return push_number(&p->marks, &p->room_marks, &p->n_marks, p->n_stack);
    case OP_POP:
        if (p->n_marks > 0 && p->n_stack == floor_of(p)) {
            p->n_marks--;
            return CLI_OK;
        }
        return pop(p, &unused);
    case OP_POP_MARK: return pop_mark(p, &first, &unused);
    case OP_BINPUT: case OP_LONG_BINPUT: return memo_put(p, number);
    case OP_MEMOIZE: return memo_put(p, p->n_memo);
    case OP_BINGET: case OP_LONG_BINGET: return memo_get(p, number);
    case OP_GLOBAL: return push_global(p);
    case OP_STACK_GLOBAL: return push_stack_global(p);
    case OP_REDUCE: case OP_NEWOBJ: return push_call(p, 2);
    case OP_NEWOBJ_EX: return push_call(p, 3);
    case OP_BUILD: return build(p);
    case OP_BINPERSID: return push_storage(p);
    case OP_PROTO: return number <= MOST_PROTOCOL ? CLI_OK : bad(p, "its protocol is newer than 5");
    case OP_FRAME: return CLI_OK;
    default: return NOBODY;
    }
}

static int run_one(pickle *p, int op)
{
    uint64_t number;
    char why[64];
    int rc = take_number(p, number_bytes(op), &number);
    if (rc == CLI_OK) {
        rc = run_plain(p, op, number);
    }
    if (rc == NOBODY) {
        rc = run_containers(p, op);
    }
    if (rc == NOBODY) {
        rc = run_others(p, op, number);
    }
    snprintf(why, sizeof why, "opcode 0x%02x is not one that torch.save writes", (unsigned)op);
    return rc == NOBODY ? bad(p, why) : rc;
}

int pickle_load(pickle *p, const char *what, const unsigned char *bytes, size_t n_bytes)
{
    int rc = CLI_OK;
    *p = (pickle){.what = what, .bytes = bytes, .n_bytes = n_bytes};
    while (rc == CLI_OK) {
        const unsigned char *op;
        CLI_TRY(take(p, 1, &op));
        if (*op == OP_STOP) {
            if (p->n_marks > 0) {
                return bad(p, "a mark is left over");
            }
            return pop(p, &p->root);
        }
        CLI_TRY(run_one(p, *op));
    }
done:
    return rc;
}
