# Reads include/usplit.h and writes, by the variable `mode`:
#   functions   names of the declared functions, one a line
#   addresses   a C program that takes the address of each of them
#   layout      a C program that prints every constant, struct layout and prototype
# It knows the header's subset of C: no unions, bit-fields, nested structs or #if around declarations.
# POSIX awk only (mawk runs it too).

{ text = text $0 "\n" }

END {
    strip_comments()
    take_macros()
    gsub(/\n/, " ", text)
    gsub(/extern "C" \{/, "", text)
    split_statements()
    if (mode == "functions") {
        for (i = 1; i <= n_functions; i++) print function_name[i]
    } else if (mode == "addresses") {
        write_addresses()
    } else if (mode == "layout") {
        write_layout()
    } else {
        print "header_table.awk: mode is '" mode "'; accepted: functions, addresses, layout" > "/dev/stderr"
        exit 2
    }
}

function strip_comments(    at, out, rest, stop) {
    rest = text
    out = ""
    while ((at = index(rest, "/*")) > 0) {
        out = out substr(rest, 1, at - 1) " "
        rest = substr(rest, at + 2)
        stop = index(rest, "*/")
        rest = substr(rest, stop + 2)
    }
    text = out rest
}

# Preprocessor lines leave the text; macros with a value are constants.
function take_macros(    lines, n, i, word, kept) {
    gsub(/\\\n/, " ", text)
    n = split(text, lines, "\n")
    kept = ""
    for (i = 1; i <= n; i++) {
        if (lines[i] ~ /^[ \t]*#/) {
            if (lines[i] ~ /^#define USPLIT_[A-Z0-9_]+ +[^ ]/ && lines[i] !~ /USPLIT_API/) {
                split(lines[i], word, " ")
                constant[++n_constants] = word[2]
            }
        } else {
            kept = kept lines[i] "\n"
        }
    }
    text = kept
}

# Statements end at ';' outside braces.
function split_statements(    i, c, depth, one) {
    depth = 0
    one = ""
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        if (c == "{") depth++
        if (c == "}") depth--
        if (c == ";" && depth == 0) {
            take(squeeze(one))
            one = ""
        } else {
            one = one c
        }
    }
}

function squeeze(s) {
    gsub(/[ \t\n]+/, " ", s)
    sub(/^ /, "", s)
    sub(/ $/, "", s)
    return s
}

function take(s,    at, name, body) {
    if (s ~ /^USPLIT_API /) {
        sub(/^USPLIT_API /, "", s)
        match(s, /usplit_[a-z0-9_]+\(/)
        function_name[++n_functions] = substr(s, RSTART, RLENGTH - 1)
        function_text[n_functions] = s
    } else if (s ~ /^enum /) {
        at = index(s, "{")
        body = substr(s, at + 1)
        sub(/\}.*/, "", body)
        take_enum(body)
    } else if (s ~ /^typedef struct [a-z0-9_]+ \{/) {
        split(s, word_of, " ")
        name = word_of[3]
        at = index(s, "{")
        body = substr(s, at + 1)
        sub(/\}[^}]*$/, "", body)
        take_struct(name, body)
    } else if (s ~ /^typedef /) {
        typedef_text[++n_typedefs] = s
    }
}

function take_enum(body,    parts, n, i, word) {
    n = split(body, parts, ",")
    for (i = 1; i <= n; i++) {
        split(squeeze(parts[i]), word, " ")
        if (word[1] != "") constant[++n_constants] = word[1]
    }
}

function take_struct(name, body,    decls, n, i) {
    struct[++n_structs] = name
    n = split(body, decls, ";")
    for (i = 1; i <= n; i++) {
        if (squeeze(decls[i]) != "") take_field(name, squeeze(decls[i]))
    }
}

function take_field(name, decl,    parts, n, i, type, item, stars, tail) {
    if (match(decl, /\(\*[a-z0-9_]+\)/)) {     # a function pointer
        add_field(name, substr(decl, RSTART + 2, RLENGTH - 3), decl)
        return
    }
    n = split(decl, parts, ",")
    match(parts[1], /[a-z0-9_]+( *\[[^]]*\])*$/)
    type = squeeze(substr(parts[1], 1, RSTART - 1))
    sub(/ *\*+$/, "", type)
    for (i = 1; i <= n; i++) {
        item = squeeze(parts[i])
        if (i == 1) item = squeeze(substr(parts[1], length(type) + 1))
        stars = ""
        while (item ~ /^\*/) {
            stars = stars "*"
            item = squeeze(substr(item, 2))
        }
        tail = item
        sub(/^[a-z0-9_]+/, "", tail)
        sub(/[ []+.*$/, "", item)
        add_field(name, item, type (stars == "" ? "" : " " stars) tail)
    }
}

function add_field(name, field, type) {
    field_struct[++n_fields] = name
    field_name[n_fields] = field
    field_type[n_fields] = type
}

function write_addresses(    i) {
    print "#include <stdio.h>"
    print "#include <usplit.h>"
    print "typedef void (*any_function)(void);"
    print "int main(void)"
    print "{"
    print "    any_function volatile all[] = {"
    for (i = 1; i <= n_functions; i++) print "        (any_function)" function_name[i] ","
    print "    };"
    print "    size_t n = sizeof all / sizeof all[0];"
    print "    for (size_t i = 0; i < n; i++) {"
    print "        if (!all[i]) {"
    print "            return 1;"
    print "        }"
    print "    }"
    print "    if (usplit_version() != USPLIT_VERSION_NUMBER) {"
    print "        printf(\"usplit_version() is %d, the header says %d\\n\", (int)usplit_version(), USPLIT_VERSION_NUMBER);"
    print "        return 1;"
    print "    }"
    print "    printf(\"%d functions of the header link\\n\", (int)n);"
    print "    return 0;"
    print "}"
}

function write_layout(    i) {
    print "#include <stddef.h>"
    print "#include <stdio.h>"
    print "#include <usplit.h>"
    print "#define FIELD(s, f, t) printf(\"%-24s %-26s %5d %5d  %s\\n\", #s, #f, (int)offsetof(s, f), (int)sizeof(((s *)0)->f), t)"
    print "int main(void)"
    print "{"
    print "    printf(\"# Public constants: name, value\\n\");"
    for (i = 1; i <= n_constants; i++)
        if (constant[i] !~ /^USPLIT_VERSION_/)
            print "    printf(\"%-32s %lld\\n\", \"" constant[i] "\", (long long)" constant[i] ");"
    print "    printf(\"\\n# Public structs: struct, bytes\\n\");"
    for (i = 1; i <= n_structs; i++)
        print "    printf(\"%-32s %d\\n\", \"" struct[i] "\", (int)sizeof(" struct[i] "));"
    print "    printf(\"\\n# Fields: struct, field, offset, bytes, declared type\\n\");"
    for (i = 1; i <= n_fields; i++)
        print "    FIELD(" field_struct[i] ", " field_name[i] ", \"" field_type[i] "\");"
    print "    printf(\"\\n# Types\\n\");"
    for (i = 1; i <= n_typedefs; i++) print "    puts(\"" typedef_text[i] "\");"
    print "    printf(\"\\n# Functions\\n\");"
    for (i = 1; i <= n_functions; i++) print "    puts(\"" function_text[i] "\");"
    print "    return 0;"
    print "}"
}
