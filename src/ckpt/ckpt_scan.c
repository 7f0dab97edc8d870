// A strict reader of the small part of HDF5 that a checkpoint consists of: groups that are symbol tables,
// arrays that are contiguous. The HDF5 library trusts what it reads (a B-tree node that is its own child
// overflows its stack); this reader knows every structure it follows, its bounds and its depth.
//
//   superblock 0 -> object header 1 -> symbol table message -> B-tree -> SNOD -> object header 1 -> ...
//                                                           -> local heap (names)
//                                   -> dataspace, datatype, layout messages: an array
//
// Layouts: HDF5 File Format Specification 1.1 (what HDF5 writes with H5F_LIBVER_EARLIEST), sections given
// below. All numbers are little endian.
#include "ckpt/ckpt_scan.h"

#include <string.h>

#include "ckpt/container.h"
#include "ckpt/paths.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "arrays are copied from the file as they lie there");

#define UNDEFINED_ADDRESS UINT64_MAX
enum { MAX_NODES = 1 << 18, MAX_LEVEL = 8, MAX_MESSAGES = 256, MAX_BLOCKS = 16 };

typedef struct scan {
    const unsigned char *image;
    uint64_t n_image;
    const char *file;
    us_ckpt_found_fn fn;
    void *user;
    char path[US_CKPT_MAX_PATH + 1]; // of the object being read; empty: the root group
    size_t n_entries;                // links followed: ends cycles of groups
    size_t n_nodes;                  // B-tree nodes and SNODs read: ends trees that share children
    uint64_t bytes;                  // of all arrays
} scan;

// What the messages of an object header say.
typedef struct object {
    const unsigned char *space, *type, *layout, *table; // message bodies, NULL: none
    uint16_t n_space, n_type, n_layout, n_table;        // bytes of each
} object;

static uint64_t get(const unsigned char *p, int n_bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < n_bytes; i++) {
        value |= (uint64_t)p[i] << (8 * i);
    }
    return value;
}

static usplit_status refuse(const scan *s, const char *what)
{
    return us_fail(USPLIT_ERR_FORMAT, "%s: '%s' %s", us_ckpt_shown(s->file), s->path[0] ? s->path : "/",
                   what);
}

// n bytes at an address of the image, NULL: they are not all there.
static const unsigned char *look(const scan *s, uint64_t address, uint64_t n)
{
    return address <= s->n_image && n <= s->n_image - address ? s->image + address : NULL;
}

// ---- Arrays (sections IV.A.2.b dataspace, d datatype, i layout) --------------------------------------

// A scalar, or up to four dimensions.
static usplit_status read_space(scan *s, const object *o, us_ckpt_found *found)
{
    const unsigned char *p = o->space;
    unsigned version = p[0], rank = p[1], kind = p[3];
    size_t header = version == 1 ? 8 : 4;
    if ((version != 1 && version != 2) || o->n_space < header || (version == 2 && kind > 1)) {
        return refuse(s, "has no shape; accepted: a scalar or an array");
    }
    if (rank > US_CKPT_MAX_DIMS) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' has rank %u; accepted: 0 to %d", us_ckpt_shown(s->file), s->path,
                rank, US_CKPT_MAX_DIMS);
    }
    if (o->n_space < header + 8 * (size_t)rank) {
        return refuse(s, "has a shape that is cut off");
    }
    found->n_dims = (int32_t)rank;
    for (unsigned i = 0; i < rank; i++) {
        uint64_t dim = get(p + header + 8 * i, 8);
        if (dim > US_CKPT_MAX_BYTES || (dim > 0 && found->bytes > US_CKPT_MAX_BYTES / dim)) {
            US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' has more than %llu bytes (dimension %u is %llu)",
                    us_ckpt_shown(s->file), s->path, (unsigned long long)US_CKPT_MAX_BYTES, i,
                    (unsigned long long)dim);
        }
        found->dims[i] = (int64_t)dim;
        found->bytes *= dim;
    }
    return USPLIT_OK;
}

// The few types are compared as a whole: class and bit field, size, then the class's properties.
static usplit_status read_type(scan *s, const object *o, us_ckpt_found *found, int *is_string)
{
    static const struct {
        int32_t type;
        uint16_t n;
        unsigned char bytes[20];
    } known[] = {
        {US_CKPT_F32, 20, {1, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0}},
        {US_CKPT_F64, 20, {1, 0x20, 63, 0, 8, 0, 0, 0, 0, 0, 64, 0, 52, 11, 0, 52, 0xff, 3, 0, 0}},
        {US_CKPT_I64, 12, {0, 0x08, 0, 0, 8, 0, 0, 0, 0, 0, 64, 0}},
        {US_CKPT_TEXT, 12, {0, 0x00, 0, 0, 1, 0, 0, 0, 0, 0, 8, 0}},
    };
    const unsigned char *p = o->type;
    unsigned class = p[0] & 15, version = p[0] >> 4;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (version >= 1 && version <= 3 && o->n_type >= known[i].n && class == known[i].bytes[0] &&
            memcmp(p + 1, known[i].bytes + 1, known[i].n - 1u) == 0) {
            found->type = known[i].type;
            found->bytes = us_ckpt_element_bytes(found->type);
            return USPLIT_OK;
        }
    }
    uint64_t size = get(p + 4, 4);
    if (class == 3 && version >= 1 && version <= 3 && size >= 1) {
        *is_string = 1;
        found->type = US_CKPT_TEXT;
        found->bytes = size;
        return USPLIT_OK;
    }
    static const char *const names[] = {"integer",   "float",           "time",     "string",
                                        "bit field", "opaque",          "compound", "reference",
                                        "enum",      "variable-length", "array"};
    US_FAIL(USPLIT_ERR_FORMAT,
            "%s: '%s' has %llu-byte elements of class %s; accepted: little-endian f32, f64, i64, "
            "fixed-length text",
            us_ckpt_shown(s->file), s->path, (unsigned long long)size, class < 11 ? names[class] : "unknown");
}

static usplit_status read_layout(scan *s, const object *o, us_ckpt_found *found)
{
    const unsigned char *p = o->layout;
    unsigned version = p[0], class = p[1];
    if ((version != 3 && version != 4) || class != 1) {
        static const char *const names[] = {"compact", "contiguous", "chunked", "virtual"};
        US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' has %s storage (version %u); accepted: contiguous",
                us_ckpt_shown(s->file), s->path, version >= 3 && class < 4 ? names[class] : "unknown",
                version);
    }
    if (o->n_layout < 18) {
        return refuse(s, "has a layout that is cut off");
    }
    uint64_t stored = get(p + 10, 8);
    found->at = get(p + 2, 8);
    if (stored != found->bytes) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' should have %llu bytes but has %llu", us_ckpt_shown(s->file),
                s->path, (unsigned long long)found->bytes, (unsigned long long)stored);
    }
    if (found->bytes == 0) {
        found->at = 0;
    } else if (found->at == UNDEFINED_ADDRESS) {
        return refuse(s, "was never written");
    } else if (!look(s, found->at, found->bytes)) {
        return refuse(s, "lies outside the file");
    }
    return USPLIT_OK;
}

static usplit_status read_array(scan *s, const object *o)
{
    us_ckpt_found found = {.path = s->path};
    int is_string = 0;
    US_TRY(read_type(s, o, &found, &is_string));
    US_TRY(read_space(s, o, &found));
    if (found.type == US_CKPT_TEXT && found.n_dims != !is_string) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' is text of rank %d; accepted: %s", us_ckpt_shown(s->file),
                s->path, (int)found.n_dims, is_string ? "one string" : "one dimension of bytes");
    }
    if (found.type == US_CKPT_TEXT && found.bytes > US_CKPT_MAX_TEXT) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: text '%s' has %llu bytes; accepted: up to %d", us_ckpt_shown(s->file),
                s->path, (unsigned long long)found.bytes, US_CKPT_MAX_TEXT);
    }
    US_TRY(read_layout(s, o, &found));
    if (is_string) {
        found.n_dims = 1;
        found.dims[0] = (int64_t)found.bytes;
    }
    s->bytes += found.bytes;
    if (s->bytes > US_CKPT_MAX_BYTES) {
        return refuse(s, "and what is before it claim over 8 GiB");
    }
    return s->fn(s->user, &found);
}

// ---- Object headers (section IV.A.1.a) ---------------------------------------------------------------

enum {
    NIL = 0,
    SPACE = 1,
    LINK_INFO = 2,
    TYPE = 3,
    OLD_FILL = 4,
    FILL = 5,
    LINK = 6,
    EXTERNAL = 7,
    LAYOUT = 8,
    GROUP_INFO = 10,
    FILTERS = 11,
    ATTRIBUTE = 12,
    COMMENT = 13,
    OLD_TIME = 14,
    CONTINUED = 16,
    TABLE = 17,
    TIME = 18
};

// Keeps a message that matters; least: bytes its reader looks at unasked.
static usplit_status keep(scan *s, const unsigned char **body, uint16_t *n, const unsigned char *p,
                          uint16_t size, uint16_t least)
{
    if (*body || size < least) {
        return refuse(s, *body ? "has a message twice in its header"
                               : "has a message that is cut off in its header");
    }
    *body = p;
    *n = size;
    return USPLIT_OK;
}

static usplit_status take_message(scan *s, object *o, unsigned type, unsigned flags, const unsigned char *p,
                                  uint16_t size)
{
    switch (type) {
    case NIL:
    case OLD_FILL:
    case FILL:
    case ATTRIBUTE:
    case COMMENT:
    case OLD_TIME:
    case TIME:
        return USPLIT_OK;
    case EXTERNAL:
        return refuse(s, "lies in an external file; accepted: data inside this file");
    case FILTERS:
        return refuse(s, "has filters; accepted: uncompressed data");
    case LINK_INFO:
    case LINK:
    case GROUP_INFO:
        return refuse(s, "is a group of the newer kind (with ordered or external links)");
    default:
        break;
    }
    if (flags & 2) {
        return refuse(s, "shares parts of its header (a named type); accepted: plain arrays and groups");
    }
    switch (type) {
    case SPACE:
        return keep(s, &o->space, &o->n_space, p, size, 4);
    case TYPE:
        return keep(s, &o->type, &o->n_type, p, size, 8);
    case LAYOUT:
        return keep(s, &o->layout, &o->n_layout, p, size, 2);
    case TABLE:
        return keep(s, &o->table, &o->n_table, p, size, 16);
    default:
        break;
    }
    US_FAIL(USPLIT_ERR_FORMAT, "%s: '%s' has message %u in its header; accepted: plain arrays and groups",
            us_ckpt_shown(s->file), s->path, type);
}

static usplit_status read_header(scan *s, object *o, uint64_t address)
{
    struct {
        uint64_t address, n;
    } blocks[MAX_BLOCKS];
    const unsigned char *p = look(s, address, 16);
    if (!p || p[0] != 1) {
        return refuse(s, "has no object header of version 1");
    }
    int n_blocks = 1, n_messages = 0;
    blocks[0].address = address + 16;
    blocks[0].n = get(p + 8, 4);
    for (int b = 0; b < n_blocks; b++) {
        const unsigned char *at = look(s, blocks[b].address, blocks[b].n);
        if (!at) {
            return refuse(s, "has a header outside the file");
        }
        for (uint64_t left = blocks[b].n; left >= 8;) {
            unsigned type = (unsigned)get(at, 2), flags = at[4];
            uint16_t size = (uint16_t)get(at + 2, 2);
            if (size > left - 8 || ++n_messages > MAX_MESSAGES) {
                return refuse(s, "has a header that is cut off or too long");
            }
            if (type != CONTINUED) {
                US_TRY(take_message(s, o, type, flags, at + 8, size));
            } else if (size < 16 || n_blocks == MAX_BLOCKS) {
                return refuse(s, "has a header in too many pieces");
            } else {
                blocks[n_blocks].address = get(at + 8, 8);
                blocks[n_blocks++].n = get(at + 16, 8);
            }
            at += 8 + size;
            left -= 8 + (uint64_t)size;
        }
    }
    return USPLIT_OK;
}

// ---- Groups (sections III.A B-trees, III.B symbol table nodes, III.D local heaps) ---------------------

static usplit_status read_object(scan *s, uint64_t address);

// The names of a group's links.
typedef struct names {
    const unsigned char *bytes;
    uint64_t n;
} names;

static usplit_status read_names(scan *s, names *out, uint64_t address)
{
    const unsigned char *p = look(s, address, 32);
    if (!p || memcmp(p, "HEAP", 4) != 0 || p[4] != 0) {
        return refuse(s, "has no heap of names");
    }
    out->n = get(p + 8, 8);
    out->bytes = look(s, get(p + 24, 8), out->n);
    if (!out->bytes) {
        return refuse(s, "has a heap of names outside the file");
    }
    return USPLIT_OK;
}

// One link: its name goes behind the group's path, then the object it points to is read.
static usplit_status follow_link(scan *s, const names *in, const unsigned char *entry)
{
    uint64_t offset = get(entry, 8), kind = get(entry + 16, 4);
    size_t outer = strlen(s->path), at = outer > 0 ? outer + 1 : 0;
    const unsigned char *name = offset < in->n ? in->bytes + offset : NULL;
    const unsigned char *end = name ? memchr(name, 0, (size_t)(in->n - offset)) : NULL;
    if (++s->n_entries > US_CKPT_MAX_ENTRIES) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: has over %d entries", us_ckpt_shown(s->file), US_CKPT_MAX_ENTRIES);
    }
    if (!end || end == name || (size_t)(end - name) + at > US_CKPT_MAX_PATH) {
        return refuse(s, "has a name that is empty, too long or outside its heap");
    }
    if (memchr(name, '/', (size_t)(end - name))) {
        return refuse(s, "has a name with a '/'");
    }
    if (outer > 0) {
        s->path[outer] = '/';
    }
    memcpy(s->path + at, name, (size_t)(end - name) + 1);
    const char *fault = us_ckpt_path_fault(s->path);
    if (fault) {
        s->path[outer] = '\0';
        US_FAIL(USPLIT_ERR_FORMAT, "%s: a path in group '%s' %s", us_ckpt_shown(s->file), s->path, fault);
    }
    if (kind > 1) {
        return refuse(s, "is a soft link; accepted: hard links");
    }
    US_TRY(read_object(s, get(entry + 8, 8)));
    s->path[outer] = '\0';
    return USPLIT_OK;
}

// Level 0 points to nodes of symbols, level n to nodes of level n - 1: so a tree cannot contain itself.
static usplit_status read_node(scan *s, const names *in, uint64_t address, int level)
{
    const char *mark = level < 0 ? "SNOD" : "TREE";
    const unsigned char *p = look(s, address, 24);
    // SNOD: version 1. TREE: kind 0 (groups), the level expected.
    int fits = p && memcmp(p, mark, 4) == 0 && (level < 0 ? p[4] == 1 : p[4] == 0 && p[5] == level);
    if (!fits || ++s->n_nodes > MAX_NODES) {
        return refuse(s, "has a tree that is broken or too large");
    }
    uint64_t n = get(p + 6, 2), header = level < 0 ? 8 : 24, stride = level < 0 ? 40 : 16;
    if (!look(s, address, header + n * stride)) {
        return refuse(s, "has a tree outside the file");
    }
    for (uint64_t i = 0; i < n; i++) {
        const unsigned char *at = p + header + i * stride;
        if (level < 0) {
            US_TRY(follow_link(s, in, at));
        } else {
            US_TRY(read_node(s, in, get(at + 8, 8), level - 1)); // a key, then a child
        }
    }
    return USPLIT_OK;
}

static usplit_status read_group(scan *s, const object *o)
{
    names in;
    uint64_t tree = get(o->table, 8);
    US_TRY(read_names(s, &in, get(o->table + 8, 8)));
    const unsigned char *p = look(s, tree, 24);
    if (!p || p[5] > MAX_LEVEL) {
        return refuse(s, "has a tree that is broken or too large");
    }
    return read_node(s, &in, tree, p[5]);
}

// Recursion ends with the path: every group adds a component, and there are at most 8.
static usplit_status read_object(scan *s, uint64_t address)
{
    object o = {0};
    US_TRY(read_header(s, &o, address));
    if (o.table) {
        return read_group(s, &o);
    }
    if (s->path[0] && o.space && o.type && o.layout) {
        return read_array(s, &o);
    }
    return refuse(s, "is neither a group nor an array");
}

usplit_status us_ckpt_scan(const unsigned char *image, uint64_t n_image, const char *file,
                           us_ckpt_found_fn fn, void *user)
{
    // Section II.A: signature, versions 0, 8-byte addresses and lengths, base address 0, end of the file.
    static const unsigned char signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    scan s = {.image = image, .n_image = n_image, .file = file, .fn = fn, .user = user};
    const unsigned char *p = look(&s, 0, 96);
    if (!p || memcmp(p, signature, sizeof signature) != 0) {
        US_FAIL(USPLIT_ERR_FORMAT, "%s: not an HDF5 file behind its header", us_ckpt_shown(file));
    }
    if (p[8] != 0 || p[13] != 8 || p[14] != 8 || get(p + 24, 8) != 0 || get(p + 40, 8) > n_image) {
        US_FAIL(USPLIT_ERR_FORMAT,
                "%s: HDF5 superblock %d with %d-byte addresses; accepted: version 0, 8 bytes, "
                "base 0, all inside the file",
                us_ckpt_shown(file), p[8], p[13]);
    }
    return read_object(&s, get(p + 64, 8));
}
