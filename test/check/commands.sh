#!/bin/bash
# commands.sh PROGRAM [PAGE...]: command lines in the documents name commands that exist, and options that these take. Both
# come from the program's own table, as `usplit completion fish` prints it. A command line is
#   - a line of a block (fenced or indented) that begins with usplit or bin/usplit, with those it goes on to by a backslash;
#   - words in backquotes that begin so, or that begin with the name of a command and hold an option: `split --shard`.
# Values are not looked at.
set -u
program=$(realpath "$1")
shift
cd "$(dirname "$0")/../.." || exit 1
[ $# -gt 0 ] || set -- README.md docs/*.md
"$program" completion fish | awk -v quote="'" '
    function complain(text) { print FILENAME ":" at ": " text; bad = 1 }

    # One command line, without comments and what follows in the same line of the shell.
    function check(text, must,    n, words, i, command, option, single) {
        sub(/[ \t]#.*/, "", text)
        gsub(/"[^"]*"/, "TEXT", text)
        single = quote "[^" quote "]*" quote
        gsub(single, "TEXT", text)
        sub(/ (\||>|2>|&&|\|\|) .*/, "", text)
        sub(/;.*/, "", text)
        n = split(text, words, /[ \t\n]+/)
        i = 1
        if (words[i] ~ /^(bin\/)?usplit$/) { i++ }
        command = words[i]
        if (command == "COMMAND") { return }
        if (command ~ /^--(help|version)$/ && i == n) { seen++; return }
        if (!(command in commands)) {
            if (must) { complain("there is no command \"" command "\": " text) }
            return
        }
        seen++
        for (i++; i <= n; i++) {
            option = words[i]
            gsub(/[][(),.]+$|^[][(]+/, "", option)
            sub(/=.*/, "", option)
            if (option !~ /^-/ || option ~ /^-[0-9.]/ || option == "-" || option == "--" || option == "--help") { continue }
            if (!((command, option) in options)) { complain("usplit " command " takes no " option) }
        }
    }

    # Spans in backquotes of a paragraph.
    function spans(text,    n, parts, i) {
        n = split(text, parts, "`")
        for (i = 2; i <= n; i += 2) {
            if (parts[i] ~ /^(bin\/)?usplit[ \n]/) { check(parts[i], 1) }
            else if (parts[i] ~ /^[a-z][a-z-]*[ \n].*-/) { check(parts[i], 0) }
        }
    }

    function end_of_paragraph() { spans(paragraph); paragraph = "" }

    # ---- The table: command names, then the options of each
    NR == FNR {
        if ($0 ~ /__fish_use_subcommand/) { match($0, /-a [a-z-]+/); commands[substr($0, RSTART + 3, RLENGTH - 3)]; next }
        if (!match($0, /seen_subcommand_from [a-z-]+/)) { next }
        command = substr($0, RSTART + 21, RLENGTH - 21)
        rest = substr($0, RSTART + RLENGTH + 1)
        sub(" -d .*", "", rest)
        n = split(rest, words, " ")
        for (i = 1; i < n; i++) {
            if (words[i] == "-l") { options[command, "--" words[i + 1]]; n_options++ }
            if (words[i] == "-s") { options[command, "-" words[i + 1]] }
        }
        next
    }
    # `help` is the program itself.
    FNR == 1 {
        if (n_options < 100) { print "the program lists " n_options + 0 " options only"; bad = 1; exit }
        commands["help"]
        options["help", "--man"]
        at = 0
        end_of_paragraph()
        fenced = indented = more = 0
        blank = 1
    }
    { if (!more && paragraph == "") { at = FNR } }
    /^```/ { end_of_paragraph(); fenced = !fenced; next }
    fenced || (/^    / && (blank || indented)) {
        if (!fenced) { end_of_paragraph(); indented = 1 }
        blank = 0
        line = $0
        sub(/^[ \t]*(\$ )?/, "", line)
        if (more) { line = held " " line }
        else { at = FNR }
        more = line ~ /\\$/
        if (more) { sub(/[ \t]*\\$/, "", line); held = line; next }
        if (line ~ /^(bin\/)?usplit[ \t]/) { check(line, 1) }
        next
    }
    /^[ \t]*$/ { end_of_paragraph(); blank = 1; next }
    {
        if (/^\|/ || /^[-#]/) { end_of_paragraph(); at = FNR }
        blank = indented = more = 0
        paragraph = paragraph == "" ? $0 : paragraph "\n" $0
    }
    END {
        end_of_paragraph()
        if (seen < 1) { print "no command lines were found"; bad = 1 }
        if (!bad) { print seen " command lines of the documents name commands and options that exist" }
        exit bad
    }' - "$@"
