# C source without comments; the text of strings becomes empty. Line numbers stay: the output has the same
# number of lines. With -v strings=1 string texts are kept.
BEGIN { inside = 0 }
{
    out = ""
    line = $0
    while (line != "") {
        if (inside) {
            at = index(line, "*/")
            if (at == 0) { line = ""; break }
            line = substr(line, at + 2)
            inside = 0
            continue
        }
        if (!match(line, /"|'|\/\*|\/\//)) { out = out line; break }
        token = substr(line, RSTART, RLENGTH)
        out = out substr(line, 1, RSTART - 1)
        line = substr(line, RSTART + RLENGTH)
        if (token == "//") break
        if (token == "/*") { inside = 1; out = out " "; continue }
        # A string or character constant: up to the next same quote that is not escaped.
        body = ""
        while (line != "") {
            c = substr(line, 1, 1)
            line = substr(line, 2)
            if (c == "\\") { body = body c substr(line, 1, 1); line = substr(line, 2); continue }
            if (c == token) break
            body = body c
        }
        out = out token (strings ? body : "") token
    }
    print out
}
