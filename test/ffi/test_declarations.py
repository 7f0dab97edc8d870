#!/usr/bin/env python3
"""The declarations of the Python and Julia packages are those of include/usplit.h.

Three ways that do not share code: tools/ffi_gen.py made the declarations from the table that a compiled program prints
(test/abi/layout.txt); here ctypes lays its structs out anew and is compared with the compiler's offsets and sizes; and
pycparser reads the header itself and is compared, field by field and parameter by parameter, with what Python and Julia
declare. What differs is named. Prints TAP; without pycparser the last part is skipped.
"""
import ctypes
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import traceback

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))

import julia_abi  # noqa: E402

try:
    import pycparser
    from pycparser import c_ast
except ImportError:
    pycparser = None


class Skip(Exception):
    pass


def load_abi():
    """_abi.py alone: the package itself would want numpy and the library."""
    spec = importlib.util.spec_from_file_location("_abi", ROOT / "bindings/python/usplit/_abi.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ABI = load_abi()
HEADER = (ROOT / "include/usplit.h").read_text()

# ---- One notation for types: ("i", 4), ("u", 8), ("f", 8), ("char",), ("void",), ("ptr", T), ("array", n, T),
#      ("struct", name), ("function", result, parameters)

SCALARS = {"size_t": ("u", ctypes.sizeof(ctypes.c_size_t)), "int32_t": ("i", 4), "int64_t": ("i", 8),
           "uint8_t": ("u", 1), "uint16_t": ("u", 2), "uint32_t": ("u", 4), "uint64_t": ("u", 8), "float": ("f", 4),
           "double": ("f", 8), "char": ("char",), "void": ("void",)}


def of_ctypes(t):
    if t is None:
        return ("void",)
    if t is ctypes.c_char_p:
        return ("ptr", ("char",))
    if t is ctypes.c_void_p:
        return ("ptr", ("void",))
    if hasattr(t, "_restype_"):
        return ("function", of_ctypes(t._restype_), tuple(of_ctypes(a) for a in t._argtypes_))
    if issubclass(t, ctypes.Structure):
        return ("struct", t.__name__)
    if issubclass(t, ctypes.Array):
        return ("array", t._length_, of_ctypes(t._type_))
    if issubclass(t, ctypes._Pointer):
        return ("ptr", of_ctypes(t._type_))
    code = t._type_
    if code == "c":
        return ("char",)
    return ("f" if code in "fd" else "i" if code in "bhilq" else "u", ctypes.sizeof(t))


JULIA = {"Csize_t": SCALARS["size_t"], "Int32": ("i", 4), "Int64": ("i", 8), "UInt16": ("u", 2), "UInt32": ("u", 4),
         "UInt64": ("u", 8), "Cfloat": ("f", 4), "Cdouble": ("f", 8), "UInt8": ("char",), "Cvoid": ("void",),
         "Cstring": ("ptr", ("char",))}


def of_julia(text):
    pointer = re.fullmatch(r"Ptr\{(.+)\}", text)
    many = re.fullmatch(r"NTuple\{(\d+), (.+)\}", text)
    if pointer:
        return ("ptr", of_julia(pointer[1]))
    if many:
        return ("array", int(many[1]), of_julia(many[2]))
    return JULIA.get(text, ("struct", text))


def as_julia_sees(t, handles):
    """Handles and callbacks are Ptr{Cvoid} there, and bytes have one type."""
    if t[0] == "function":
        return ("ptr", ("void",))
    if t[0] == "struct" and t[1] in handles:
        return ("void",)
    if t == ("u", 1):
        return ("char",)
    if t[0] in ("ptr", "array"):
        return t[:-1] + (as_julia_sees(t[-1], handles),)
    return t


def plain(t):
    """For people: 'int32[12]', 'pointer to usplit_model'."""
    if t is None:
        return "nothing"
    kind = t[0]
    if kind == "ptr":
        return "pointer to " + plain(t[1])
    if kind == "array":
        return "%s[%d]" % (plain(t[2]), t[1])
    if kind == "struct":
        return t[1]
    if kind == "function":
        return "function of (%s) giving %s" % (", ".join(map(plain, t[2])), plain(t[1]))
    return kind if len(t) == 1 else {"i": "int", "u": "uint", "f": "float"}[kind] + str(8 * t[1])


# ---- The header, by pycparser ------------------------------------------------------------------------

class Header:
    def __init__(self, text):
        self.constants, self.enums, self.structs, self.functions, self.names = {}, [], {}, {}, dict(SCALARS)
        self.handles = set()
        for node in pycparser.CParser().parse(preprocess(text), "usplit.h").ext:
            if isinstance(node, c_ast.Typedef):
                if node.name not in SCALARS:
                    self.take_typedef(node)
            elif isinstance(node.type, c_ast.FuncDecl):
                self.functions[node.name] = self.function(node.type)
            elif isinstance(node.type, c_ast.Enum):
                self.take_enum(node.type)
            else:
                raise ValueError("line %s of the header is not understood" % node.coord)
        for name, value in re.findall(r"^#define (USPLIT_[A-Z0-9_]+) (\d+)$", text, re.M):
            if not name.startswith("USPLIT_VERSION_"):
                self.constants[name] = int(value)
        self.version = tuple(int(re.search(r"USPLIT_VERSION_%s (\d+)" % part, text)[1])
                             for part in ("MAJOR", "MINOR", "PATCH"))

    def take_enum(self, node):
        value, names = -1, []
        for item in node.values.enumerators:
            value = value + 1 if item.value is None else self.number(item.value)
            self.constants[item.name] = value
            names.append(item.name)
        self.enums.append(names)

    def number(self, node):
        if isinstance(node, c_ast.Constant):
            return int(node.value, 0)
        if isinstance(node, c_ast.ID):
            return self.constants[node.name]
        if isinstance(node, c_ast.UnaryOp) and node.op == "-":
            return -self.number(node.expr)
        raise ValueError("a number of the header is not understood: %r" % node)

    def take_typedef(self, node):
        struct = getattr(node.type, "type", None)
        if isinstance(struct, c_ast.Struct):
            self.names[node.name] = ("struct", node.name)
            if struct.decls is None:
                self.handles.add(node.name)
            else:
                self.structs[node.name] = {d.name: self.type(d.type) for d in struct.decls}
        else:
            self.names[node.name] = self.type(node.type)

    def type(self, node):
        if isinstance(node, c_ast.TypeDecl):
            return self.type(node.type)
        if isinstance(node, c_ast.IdentifierType):
            return self.names[" ".join(node.names)]
        if isinstance(node, c_ast.PtrDecl):
            inner = self.type(node.type)
            return inner if inner[0] == "function" else ("ptr", inner)
        if isinstance(node, c_ast.ArrayDecl):
            return ("array", self.number(node.dim), self.type(node.type))
        if isinstance(node, c_ast.FuncDecl):
            return self.function(node)
        raise ValueError("a type of the header is not understood: %r" % node)

    def function(self, node):
        parameters = tuple(self.type(p.type) for p in node.args.params)
        return ("function", self.type(node.type), () if parameters == (("void",),) else parameters)


def preprocess(text):
    """Without comments and attributes; the two standard headers are replaced by the few names that are used."""
    with tempfile.TemporaryDirectory() as folder:
        names = [n for n in SCALARS if n.endswith("_t")]
        (pathlib.Path(folder) / "stdint.h").write_text("".join("typedef int %s;\n" % n for n in names))
        (pathlib.Path(folder) / "stddef.h").write_text("")
        (pathlib.Path(folder) / "usplit.h").write_text(text)
        done = subprocess.run([os.environ.get("CC", "cc"), "-E", "-P", "-nostdinc", "-U__GNUC__", "-I", folder,
                               pathlib.Path(folder) / "usplit.h"], capture_output=True, text=True)
        if done.returncode:
            raise Skip("the C preprocessor does not run: " + (done.stderr.strip().splitlines() or ["no word"])[-1])
        return done.stdout


# ---- Comparing ---------------------------------------------------------------------------------------

def differences(what, ours, theirs, file):
    """Lines that name each difference between two {name: type} in order."""
    out, before = [], "the beginning"
    for name, t in theirs.items():
        if name not in ours:
            out.append("%s: '%s' (%s, after %s) is in the header, not in %s" % (what, name, plain(t), before, file))
        elif ours[name] != t:
            out.append("%s: '%s' is %s in the header, %s in %s" % (what, name, plain(t), plain(ours[name]), file))
        before = name
    out += ["%s: '%s' is in %s, not in the header" % (what, name, file) for name in ours if name not in theirs]
    common = [n for n in theirs if n in ours]
    if not out and list(ours) != common:
        out.append("%s: the order in %s is %s" % (what, file, ", ".join(ours)))
    return out


def compare(header, constants, structs, functions, file, seen=lambda t: t):
    out = []
    out += ["constant %s is %d in the header, %s in %s" % (n, v, constants.get(n, "missing"), file)
            for n, v in header.constants.items() if constants.get(n) != v]
    out += ["constant %s is in %s, not in the header" % (n, file) for n in constants if n not in header.constants]
    for name in {**header.structs, **structs}:
        if name not in structs or name not in header.structs:
            out.append("struct %s is in the %s only" % (name, "header" if name in header.structs else file))
            continue
        out += differences("struct " + name, structs[name], {f: seen(t) for f, t in header.structs[name].items()}, file)
    for name in {**header.functions, **functions}:
        if name not in functions or name not in header.functions:
            out.append("function %s is in the %s only" % (name, "header" if name in header.functions else file))
            continue
        _, result, parameters = header.functions[name]
        expected = ("function", seen(result), tuple(seen(p) for p in parameters))
        if functions[name] != expected:
            out.append("%s: %s in the header, %s in %s" % (name, plain(expected), plain(functions[name]), file))
    return out


def python_declares():
    constants = {n: v for n, v in vars(ABI).items() if n.startswith("USPLIT_")}
    structs = {n: {f: of_ctypes(t) for f, t in v._fields_} for n, v in vars(ABI).items()
               if isinstance(v, type) and issubclass(v, ctypes.Structure) and hasattr(v, "_fields_")}
    functions = {n: ("function", of_ctypes(r), tuple(map(of_ctypes, p))) for n, (r, p) in ABI.FUNCTIONS.items()}
    return constants, structs, functions


def julia_declares():
    abi = julia_abi.read()
    return (abi.constants, {n: {f: of_julia(t) for f, t in s.items()} for n, s in abi.structs.items()},
            {n: ("function", of_julia(r), tuple(map(of_julia, p))) for n, (r, p) in abi.functions.items()})


def must_be_empty(lines):
    if lines:
        lines = lines + ["run tools/ffi_gen.py (make abi-accept does) and commit what it wrote"]
        raise AssertionError("\n".join(lines))


def parsed(text=HEADER):
    if pycparser is None:
        raise Skip("pycparser is not installed (Debian package python3-pycparser)")
    return Header(text)


# ---- Cases -------------------------------------------------------------------------------------------

def generated_files_are_up_to_date():
    done = subprocess.run([sys.executable, ROOT / "tools/ffi_gen.py", "--check"], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stdout + done.stderr)


def ctypes_lays_out_as_the_compiler_does():
    """Offsets and sizes of test/abi/layout.txt, which is for 64 bits."""
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        raise Skip("the table is that of 64-bit machines")
    wrong, n = [], 0
    for line in (ROOT / "test/abi/layout.txt").read_text().splitlines():
        size = re.fullmatch(r"(usplit_\w+) +(\d+)", line)
        field = re.match(r"(usplit_\w+) +(\w+) +(\d+) +(\d+)  ", line)
        if not size and not field:
            continue
        struct = getattr(ABI, (size or field)[1], None)
        place = getattr(struct, field[2], None) if field else None
        n += 1 if field else 0
        if struct is None or field and place is None:
            wrong.append("%s is missing in Python" % ".".join((size or field).groups()[:2 if field else 1]))
        elif size and ctypes.sizeof(struct) != int(size[2]):
            wrong.append("%s has %s bytes; in Python %d" % (size[1], size[2], ctypes.sizeof(struct)))
        elif field and (place.offset, place.size) != (int(field[3]), int(field[4])):
            wrong.append("%s.%s is at %s, %s bytes; in Python at %d, %d bytes"
                         % (*field.groups(), place.offset, place.size))
    must_be_empty(wrong)
    assert n > 200, "only %d fields were found in the table" % n


def python_is_the_header():
    must_be_empty(compare(parsed(), *python_declares(), "_abi.py"))


def julia_is_the_header():
    header = parsed()
    must_be_empty(compare(header, *julia_declares(), "abi.jl", lambda t: as_julia_sees(t, header.handles)))


def names_of_constants_are_whole_enums():
    """Every group of names in ENUMS is one enum of the header."""
    header = parsed()
    enums = {frozenset(names) for names in header.enums}
    for kind, names in ABI.ENUMS.items():
        group = frozenset("USPLIT_%s_%s" % (kind.upper(), n.upper()) for n in names)
        assert group in enums, "the names of %s are not one enum of the header: %s" % (kind, ", ".join(sorted(group)))
        for name, value in names.items():
            assert header.constants["USPLIT_%s_%s" % (kind.upper(), name.upper())] == value


def statuses_are_told_from_numbers():
    """Python raises for functions that return usplit_status, and only for those."""
    by_text = {name: text.strip() for text, name in re.findall(r"USPLIT_API ([\w *]+?)(usplit_\w+)\(", HEADER)}
    for name, (result, _) in ABI.FUNCTIONS.items():
        text = by_text[name]
        assert (result is ABI.usplit_status) == (text == "usplit_status"), "%s returns %s" % (name, text)


def versions_agree():
    version = ".".join(re.search(r"USPLIT_VERSION_%s (\d+)" % p, HEADER)[1] for p in ("MAJOR", "MINOR", "PATCH"))
    for file, pattern in (("bindings/python/pyproject.toml", r'^version = "(.*)"$'),
                          ("bindings/python/usplit/__init__.py", r'^__version__ = "(.*)"$'),
                          ("bindings/julia/Project.toml", r'^version = "(.*)"$'),
                          ("bindings/julia/src/abi.jl", r'^const VERSION_OF_HEADER = v"(.*)"$')):
        found = re.search(pattern, (ROOT / file).read_text(), re.M)[1]
        assert found == version, "%s has version %s, the header %s" % (file, found, version)
    assert ".".join(map(str, ABI.VERSION)) == version


def a_changed_header_is_noticed():
    """This test itself: each change of the header is named, in both packages."""
    extra = "USPLIT_API int32_t usplit_version(void);"
    for before, after, line in (
            ("} usplit_tiler_options;", "int32_t ffi_test;\n} usplit_tiler_options;",
             "struct usplit_tiler_options: 'ffi_test' (int32, after"),
            (extra, extra + "USPLIT_API int32_t usplit_ffi_test(int32_t x);",
             "function usplit_ffi_test is in the header only"),
            (extra, extra + "enum { USPLIT_FFI_TEST = 7 };", "constant USPLIT_FFI_TEST is 7 in the header, missing in"),
            ("double loss;", "float loss;", "struct usplit_progress: 'loss' is float32 in the header, float64 in"),
            ("int32_t tiling;", "", "struct usplit_tiler_options: 'tiling' is in"),
            ("int32_t threads;", "int32_t workers;",
             "struct usplit_context_options: 'workers' (int32, after device) is in"),
            ("tiler_plan(const usplit_tiler *tiler, int64_t", "tiler_plan(const usplit_tiler *tiler, int32_t",
             "usplit_tiler_plan: function of (pointer to"),
            ("USPLIT_ERR_BUSY = 51", "USPLIT_ERR_BUSY = 53", "constant USPLIT_ERR_BUSY is 53 in the header, 51 in")):
        assert before in HEADER, "%r is no longer in the header: choose another line to change here" % before
        text = HEADER.replace(before, after, 1)
        header = parsed(text)
        for file, declared, seen in (("_abi.py", python_declares(), lambda t: t),
                                     ("abi.jl", julia_declares(), lambda t: as_julia_sees(t, header.handles))):
            found = compare(header, *declared, file, seen)
            assert any(f.startswith(line) for f in found), "%r was not named in %s, but: %s" % (line, file, found)


def arguments_at(text, start):
    """How many arguments the call has whose parenthesis opens at start."""
    depth, n, empty = 0, 1, True
    for c in text[start:]:
        depth += (c in "([{") - (c in ")]}")
        if depth == 0:
            return 0 if empty else n
        if c == "," and depth == 1:
            n += 1
        elif not c.isspace() and not (c == "(" and depth == 1):
            empty = False
    raise AssertionError("a call without an end: %s" % text[start - 40:start + 40])


def julia_calls_what_there_is():
    """As nothing runs Julia: every call of the library in USplit.jl has as many arguments as its declaration, and every
    struct that is made by hand as many fields. The guide names only functions that are there."""
    abi = julia_abi.read()
    source = (ROOT / "bindings/julia/src/USplit.jl").read_text()
    source = re.sub(r'"(\\.|[^"\\])*"', '""', re.sub(r"^\s*#.*$", "", source, flags=re.M))
    called = set()
    for found in re.finditer(r"\b(usplit_\w+)\(", source):
        name, n = found[1], arguments_at(source, found.end() - 1)
        assert name in abi.functions or name in abi.structs, "USplit.jl uses %s, which abi.jl has not" % name
        wanted = len(abi.functions[name][1] if name in abi.functions else abi.structs[name])
        assert n == wanted, "USplit.jl gives %s %d arguments; accepted: %d" % (name, n, wanted)
        called.add(name)
    for name in re.findall(r"\b(?:usplit|USPLIT)_\w+", source):
        known = name in abi.functions or name in abi.structs or name in abi.constants
        assert known or name.endswith("_"), "USplit.jl names %s, which abi.jl has not" % name
    assert len(called) > 30, "only %d calls were found" % len(called)
    guide = (ROOT / "docs/julia.md").read_text()
    code = "\n".join(re.findall(r"```julia\n(.*?)```", guide, re.S) + re.findall(r"`([^`\n]+)`", guide))
    base = {"println", "using"}
    for name in set(re.findall(r"(\w+!?)\(", code)) - base:
        there = re.search(r"(?:function |^|struct |:)%s(?=[(,)])" % re.escape(name), source, re.M)
        assert there or name in abi.functions, "docs/julia.md names %s, which the package has not" % name


CASES = [generated_files_are_up_to_date, ctypes_lays_out_as_the_compiler_does, versions_agree,
         statuses_are_told_from_numbers, python_is_the_header, julia_is_the_header, names_of_constants_are_whole_enums,
         julia_calls_what_there_is, a_changed_header_is_noticed]


def main():
    failed = 0
    print("1..%d" % len(CASES))
    for number, case in enumerate(CASES, 1):
        name = case.__name__.replace("_", " ")
        try:
            case()
            print("ok %d - %s" % (number, name))
        except Skip as skip:
            print("skip: %s\nok %d - %s # SKIP" % (skip, number, name))
        except Exception as error:
            failed = 1
            print("not ok %d - %s" % (number, name))
            text = str(error) if isinstance(error, AssertionError) else traceback.format_exc()
            print("\n".join("# " + line for line in text.splitlines()))
    return failed


if __name__ == "__main__":
    sys.exit(main())
