"""Reads bindings/julia/src/abi.jl as Julia would: constants, structs with their fields, functions with the types of
their calls. With an argument, writes it as a C header for julia_pattern.c:

    julia_abi.py OUTPUT

Structs get the prefix jl_, functions become pointer types jl_NAME_fn, and every size, offset and constant is asserted
to be that of usplit.h. Julia lays out such structs as C does.
"""
import pathlib
import re
import sys

ABI = pathlib.Path(__file__).resolve().parents[2] / "bindings/julia/src/abi.jl"

C_NAMES = {"Csize_t": "size_t", "Int32": "int32_t", "Int64": "int64_t", "UInt64": "uint64_t", "UInt32": "uint32_t",
           "UInt16": "uint16_t", "UInt8": "uint8_t", "Cfloat": "float", "Cdouble": "double", "Cvoid": "void",
           "Cstring": "const char *"}


class Abi:
    def __init__(self, text):
        self.version = re.search(r'^const VERSION_OF_HEADER = v"([0-9.]+)"$', text, re.M)[1]
        self.constants = {name: int(value) for name, value in
                          re.findall(r"^const (USPLIT_\w+) = Int32\((-?\d+)\)$", text, re.M)}
        self.structs, self.functions = {}, {}
        for name, body in re.findall(r"^struct (\w+)\n(.*?)^end$", text, re.M | re.S):
            self.structs[name] = dict(re.fullmatch(r"(\w+)::(.+)", line.strip()).groups()
                                      for line in body.splitlines())
        for name, parameters, body in re.findall(r"^function (\w+)\((.*?)\)\n(.*?)^end$", text, re.M | re.S):
            lines = [line.strip() for line in body.splitlines()]
            call = re.fullmatch(r"@ccall \$address\((.*)\)::(.+)", lines[1])
            if lines[0] != "address = symbol(:%s)" % name or len(lines) != 2 or not call:
                raise ValueError("%s does not look like a call of the library: %s" % (name, body))
            typed = [item.split("::") for item in re.split(r", (?=\w+::)", call[1])] if call[1] else []
            if [n for n, _ in typed] != [n for n in parameters.split(", ") if n]:
                raise ValueError("%s takes (%s) and hands on %s" % (name, parameters, call[1]))
            self.functions[name] = (call[2], [t for _, t in typed])


def read():
    return Abi(ABI.read_text())


# ---- As C --------------------------------------------------------------------------------------------

def c_type(text, structs):
    """Of anything but a tuple."""
    pointer = re.fullmatch(r"Ptr\{(.+)\}", text)
    if pointer:
        return c_type(pointer[1], structs) + " *"
    if text in structs:
        return "jl_" + text
    return C_NAMES[text]


def c_field(name, text, structs):
    dims = ""
    while True:
        tuple_of = re.fullmatch(r"NTuple\{(\d+), (.+)\}", text)
        if not tuple_of:
            return "%s %s%s;" % (c_type(text, structs), name, dims)
        dims += "[%s]" % tuple_of[1]
        text = tuple_of[2]


def write_c(abi):
    out = ["// Written by julia_abi.py from bindings/julia/src/abi.jl.", "#include <stddef.h>", "#include <stdint.h>",
           "#include <usplit.h>"]
    for name, value in abi.constants.items():
        out.append('_Static_assert(%s == %d, "%s in abi.jl");' % (name, value, name))
    for name, fields in abi.structs.items():
        out += ["typedef struct jl_%s {" % name]
        out += ["    " + c_field(field, t, abi.structs) for field, t in fields.items()]
        out += ["} jl_%s;" % name, '_Static_assert(sizeof(jl_%s) == sizeof(%s), "size of %s in abi.jl");'
                % (name, name, name)]
        for field in fields:
            out.append('_Static_assert(offsetof(jl_%s, %s) == offsetof(%s, %s), "%s.%s in abi.jl");'
                       % (name, field, name, field, name, field))
            out.append('_Static_assert(sizeof((jl_%s){0}.%s) == sizeof((%s){0}.%s), "%s.%s in abi.jl");'
                       % (name, field, name, field, name, field))
    for name, (result, parameters) in abi.functions.items():
        out.append("typedef %s (*jl_%s_fn)(%s);" % (c_type(result, abi.structs), name, ", ".join(
            c_type(p, abi.structs) for p in parameters) or "void"))
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    pathlib.Path(sys.argv[1]).write_text(write_c(read()))
