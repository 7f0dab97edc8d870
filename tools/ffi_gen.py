#!/usr/bin/env python3
"""Writes the declarations of the Python and Julia packages from the ABI's own table.

    ffi_gen.py            writes bindings/python/usplit/_abi.py and bindings/julia/src/abi.jl
    ffi_gen.py --check    writes nothing; status 1 and the difference when they are not up to date

It reads test/abi/layout.txt, which a compiled program prints from include/usplit.h (`make abi-accept` writes the
table and then runs this), and the version from the header. So a new field, constant or function of the header needs
no line by hand here. test/ffi/test_declarations.py checks the result against the header by another way, pycparser.
Only Python's standard library is used.
"""

import collections
import difflib
import pathlib
import re
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "test/abi/layout.txt"
HEADER = ROOT / "include/usplit.h"
PYTHON = ROOT / "bindings/python/usplit/_abi.py"
JULIA = ROOT / "bindings/julia/src/abi.jl"

# A type: base name, number of stars, sizes of array axes. A callback type: what it returns and its parameters.
Type = collections.namedtuple("Type", "base stars dims")
Function = collections.namedtuple("Function", "result parameters")
Parameter = collections.namedtuple("Parameter", "name type")


def fail(line):
    sys.exit("ffi_gen.py: " + line)


# ---- The table ---------------------------------------------------------------------------------------

class Table:
    def __init__(self):
        self.constants = {}     # name -> value
        self.structs = {}       # name -> {field: Type or Function}
        self.callbacks = {}     # name -> Function
        self.handles = []       # opaque structs
        self.aliases = {}       # name -> Type
        self.functions = {}     # name -> Function
        self.version = []

    def size(self, text):
        """An array size: a number or a constant."""
        return int(text) if text.isdigit() else self.constants[text]

    def type(self, text):
        """'const usplit_model *', 'double[USPLIT_MAX_CHANNELS]'."""
        dims = tuple(self.size(d) for d in re.findall(r"\[(\w+)\]", text))
        text = re.sub(r"\[.*", "", text).replace("const ", "")
        return Type(text.replace("*", "").strip(), text.count("*"), dims)

    def parameter(self, text):
        pointer = re.fullmatch(r"(.+?)\(\*(\w+)\)\((.*)\)", text)
        if pointer:
            return Parameter(pointer[2], self.function(pointer[1], pointer[3]))
        name = re.search(r"(\w+)$", text)[1]
        return Parameter(name, self.type(text[:-len(name)]))

    def function(self, result, parameters):
        """Commas within the parentheses of a callback's own parameters do not separate."""
        items = [p.strip() for p in re.split(r",(?![^()]*\))", parameters)]
        return Function(self.type(result), [] if items == ["void"] else [self.parameter(p) for p in items])


def read_table():
    table, section = Table(), ""
    for line in TABLE.read_text().splitlines():
        if line.startswith("#"):
            section = line[2:].split(":")[0]
        elif not line:
            continue
        elif section == "Public constants":
            name, value = line.split()
            table.constants[name] = int(value)
        elif section == "Public structs":
            table.structs[line.split()[0]] = {}
        elif section == "Fields":
            struct, field, _, _, text = line.split(None, 4)
            pointer = re.fullmatch(r"(.+?)\(\*\w+\)\((.*)\)", text)
            table.structs[struct][field] = table.function(*pointer.groups()) if pointer else table.type(text)
        elif section == "Types":
            take_typedef(table, line)
        elif section == "Functions":
            result, name, parameters = re.fullmatch(r"(.+?)(usplit_\w+)\((.*)\)", line).groups()
            table.functions[name] = table.function(result, parameters)
        else:
            fail("%s has a section '%s' that is not known here" % (TABLE.name, section))
    header = HEADER.read_text()
    for part in ("MAJOR", "MINOR", "PATCH"):
        table.version.append(int(re.search(r"#define USPLIT_VERSION_%s (\d+)" % part, header)[1]))
    return table


def take_typedef(table, line):
    pointer = re.fullmatch(r"typedef (.+?)\(\*(\w+)\)\((.*)\)", line)
    handle = re.fullmatch(r"typedef struct (\w+) (\w+)", line)
    if pointer:
        table.callbacks[pointer[2]] = table.function(pointer[1], pointer[3])
    elif handle:
        table.handles.append(handle[2])
    else:
        base, name = re.fullmatch(r"typedef (.+) (\w+)", line).groups()
        table.aliases[name] = table.type(base)


def enums_of(table):
    """{'family': {'hvae': 0, ...}}: an int32 field or parameter named like a constant's prefix takes that constant.
    Of two such names (latent, latent_scale) the longer one wins."""
    named = [item for struct in table.structs.values() for item in struct.items()]
    named += [parameter for f in table.functions.values() for parameter in f.parameters]
    fields = {name for name, t in named if t == Type("int32_t", 0, ())}
    enums = {}
    for constant, value in table.constants.items():
        owners = [f for f in fields if constant.startswith("USPLIT_%s_" % f.upper())]
        if owners:
            owner = max(owners, key=len)
            enums.setdefault(owner, {})[constant[len("USPLIT_%s_" % owner):].lower()] = value
    return enums


# ---- Python ------------------------------------------------------------------------------------------

NUMBERS = {"size_t": "c_size_t", "int32_t": "c_int32", "int64_t": "c_int64", "uint8_t": "c_uint8",
           "uint16_t": "c_uint16", "uint32_t": "c_uint32", "uint64_t": "c_uint64", "float": "c_float",
           "double": "c_double", "char": "c_char"}


def python_type(table, t):
    if isinstance(t, Function):
        return python_function(table, t)
    if t.base == "void":
        text, stars = ("c_void_p", t.stars - 1) if t.stars else ("None", 0)
    elif t.base == "char" and t.stars:
        text, stars = "c_char_p", t.stars - 1
    elif t.base in NUMBERS:
        text, stars = NUMBERS[t.base], t.stars
    elif t.base in table.structs or t.base in table.callbacks or t.base in table.handles or t.base in table.aliases:
        text, stars = t.base, t.stars
    else:
        fail("the type '%s' is not known here: add it to NUMBERS and JULIA_NUMBERS" % t.base)
    for _ in range(stars):
        text = "POINTER(%s)" % text
    for size in reversed(t.dims):
        text += " * %d" % size
    return text


def python_function(table, f):
    parts = [python_type(table, f.result)] + [python_type(table, p.type) for p in f.parameters]
    return "CFUNCTYPE(%s)" % ", ".join(parts)


def named_callbacks(table):
    """Callback types without a name of their own get that of their struct or function and field."""
    found = {}
    for name, fields in table.structs.items():
        found.update({"%s_%s" % (name, f): t for f, t in fields.items() if isinstance(t, Function)})
    for name, f in table.functions.items():
        found.update({"%s_%s" % (name, p.name): p.type for p in f.parameters if isinstance(p.type, Function)})
    return found


def uses(t):
    """Names of types that must be declared before t."""
    if isinstance(t, Function):
        return set().union(uses(t.result), *(uses(p.type) for p in t.parameters))
    return {t.base}


def in_order(table):
    """Structs and callback types, each after what it uses."""
    unnamed = named_callbacks(table)
    items = {**table.structs, **table.callbacks, **unnamed}
    done = []

    def visit(name):
        if name in done or name not in items:
            return
        item = items[name]
        fields = item.items() if isinstance(item, dict) else []
        for other in sorted(uses(item)) if not fields else []:
            visit(other)
        for field, t in fields:
            for other in ["%s_%s" % (name, field)] if isinstance(t, Function) else sorted(uses(t)):
                visit(other)
        done.append(name)

    for name in items:
        visit(name)
    return [(name, items[name]) for name in done]


def write_python(table):
    out = ["", "VERSION = (%s)" % ", ".join(map(str, table.version)), ""]
    out += ["%s = %d" % item for item in table.constants.items()]
    out += ["", "# What the constants are for (an option, a fact, an argument), and their names in Python.",
            "ENUMS = {"]
    out += ["    %r: %r," % item for item in enums_of(table).items()]
    out += ["}"]
    for name, t in table.aliases.items():           # classes of their own, so that a status is told from a number
        out += ["", "", "class %s(%s):" % (name, python_type(table, t)), "    pass"]
    for name in table.handles:
        out += ["", "", "class %s(Structure):" % name, "    pass"]
    for name, item in in_order(table):
        if isinstance(item, Function):
            out += ["", "", "%s = %s" % (name, python_function(table, item))]
            continue
        out += ["", "", "class %s(Structure):" % name, "    _fields_ = ["]
        for field, t in item.items():
            text = "%s_%s" % (name, field) if isinstance(t, Function) else python_type(table, t)
            out.append('        ("%s", %s),' % (field, text))
        out.append("    ]")
    out += ["", "", "# name: (result, parameters)", "FUNCTIONS = {"]
    for name, f in table.functions.items():
        kinds = ["%s_%s" % (name, p.name) if isinstance(p.type, Function) else python_type(table, p.type)
                 for p in f.parameters]
        out += ['    "%s": (%s, (%s)),' % (name, python_type(table, f.result),
                                           "".join(k + ", " for k in kinds).rstrip() if len(kinds) == 1
                                           else ", ".join(kinds))]
    out += ["}", ""]
    text = "\n".join(out)
    head = '"""The ABI of libusplit for ctypes. Written by tools/ffi_gen.py from include/usplit.h: do not edit."""\n'
    used = sorted(set(re.findall(r"\b(?:CFUNCTYPE|POINTER|Structure|c_\w+)\b", text)))
    return head + textwrap.fill("from ctypes import " + ", ".join(used), 100, subsequent_indent=" " * 4,
                                break_long_words=False).replace("import ", "import (", 1) + ")\n" + text


# ---- Julia -------------------------------------------------------------------------------------------

JULIA_NUMBERS = {"size_t": "Csize_t", "int32_t": "Int32", "int64_t": "Int64", "uint8_t": "UInt8",
                 "uint16_t": "UInt16", "uint32_t": "UInt32", "uint64_t": "UInt64", "float": "Cfloat",
                 "double": "Cdouble", "char": "UInt8"}


def julia_type(table, t, argument=False):
    if isinstance(t, Function) or t.base in table.callbacks:
        return "Ptr{Cvoid}"
    if t.base in table.aliases:
        return julia_type(table, table.aliases[t.base])
    if argument and t.base == "char" and t.stars:       # Julia converts strings to it, and keeps them meanwhile
        text, stars = "Cstring", t.stars - 1
    elif t.base == "void" or t.base in table.handles:
        text, stars = "Cvoid", t.stars
    else:
        text, stars = JULIA_NUMBERS.get(t.base, t.base), t.stars
    text = "Ptr{" * stars + text + "}" * stars
    for size in reversed(t.dims):
        text = "NTuple{%d, %s}" % (size, text)
    return text


def write_julia(table):
    out = ["# The ABI of libusplit as Julia sees it. Written by tools/ffi_gen.py from include/usplit.h: do not edit.",
           "# Handles and callbacks are Ptr{Cvoid}. `symbol` is in USplit.jl.",
           "", 'const VERSION_OF_HEADER = v"%d.%d.%d"' % tuple(table.version), ""]
    out += ["const %s = Int32(%d)" % item for item in table.constants.items()]
    for name, fields in table.structs.items():
        out += ["", "struct %s" % name]
        out += ["    %s::%s" % (field, julia_type(table, t)) for field, t in fields.items()]
        out += ["end"]
    for name, f in table.functions.items():
        typed = ["%s::%s" % (p.name, julia_type(table, p.type, argument=True)) for p in f.parameters]
        out += ["", "function %s(%s)" % (name, ", ".join(p.name for p in f.parameters)),
                "    address = symbol(:%s)" % name,
                "    @ccall $address(%s)::%s" % (", ".join(typed), julia_type(table, f.result, argument=True)),
                "end"]
    out.append("")
    return "\n".join(out)


# ---- Main --------------------------------------------------------------------------------------------

def main():
    if sys.argv[1:] not in ([], ["--check"]):
        fail("use: ffi_gen.py [--check]")
    table, stale = read_table(), 0
    for path, text in ((PYTHON, write_python(table)), (JULIA, write_julia(table))):
        old = path.read_text() if path.exists() else ""
        name = str(path.relative_to(ROOT))
        if old == text:
            print("%s is up to date" % name)
        elif sys.argv[1:]:
            stale = 1
            print("\n".join(difflib.unified_diff(old.splitlines(), text.splitlines(), name, "the header says",
                                                 n=0, lineterm="")))
        else:
            path.write_text(text)
            print("%s written: %d lines" % (name, text.count("\n")))
    if stale:
        print("the declarations are not those of the header's table; run tools/ffi_gen.py (or make abi-accept)")
    return stale


if __name__ == "__main__":
    sys.exit(main())
