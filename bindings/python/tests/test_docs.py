"""The snippets of the documents run: blocks marked ```python, in order, one document in one process and an empty
folder. A block after a comment <!-- not run --> is only compiled."""
import re

from .common import PACKAGE, ROOT, Case, script


def blocks(page):
    """(line, text, run) of every block."""
    text, out = page.read_text(), []
    for found in re.finditer(r"^(<!-- not run -->\n)?```python\n(.*?)^```$", text, re.M | re.S):
        out.append((text[:found.start(2)].count("\n") + 1, found[2], found[1] is None))
    return out


class Documents(Case):
    def check(self, page):
        parts = blocks(page)
        self.assertGreater(len(parts), 0, "no snippets in %s" % page)
        program = ["import os, sys", "os.chdir(sys.argv[1])"]
        for line, text, run in parts:
            compile(text, "%s:%d" % (page.name, line), "exec")
            if run:             # a traceback names the document and its line
                program.append("exec(compile(%r, %r, 'exec'))" % ("\n" * (line - 1) + text, page.name))
        self.assertEnded(script("\n".join(program), self.folder(), timeout=120))

    def test_guide(self):
        self.check(ROOT / "docs" / "python.md")

    def test_readme_of_the_package(self):
        self.check(PACKAGE / "README.md")
