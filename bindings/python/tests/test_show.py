"""What people see: a rewritten line in a terminal, a bar in a notebook, few lines in a log file. And that the library
is found where it should be."""
import io
import os
import shutil
import subprocess
import sys
import types
from importlib import metadata
from unittest import mock

from .common import PACKAGE, ROOT, TRAINING, Case, dataset, fresh, image, script, trained
import usplit
from usplit import _progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Show(Case):
    def train(self, **options):
        usplit.Trainer(fresh(), dataset(), **{**TRAINING, **options}).fit(progress=True)

    def test_terminal(self):
        with mock.patch.object(sys, "stderr", Terminal()) as err:
            self.train()
        text = err.getvalue()
        self.assertRegex(text, r"\repoch 1  \[[# ]{20}\] \d+/8 steps  loss \d+\.\d{4}  PSNR")
        self.assertEqual(text.count("\n"), 2)           # the epochs stay, everything else is rewritten
        for number, row in enumerate(text.split("\n")[:2], 1):
            last = row.split("\r")[-1]
            self.assertRegex(last, r"^epoch %d: loss \d+\.\d+, validation PSNR \d+\.\d\d dB, learning rate 0.001"
                             % number)
        with mock.patch.object(sys, "stderr", Terminal()) as err:
            trained().split(image(), progress=True)
        self.assertRegex(err.getvalue(), r"\[#{20}\] (\d+)/\1 tiles  .* tiles/s  left 0:00.*\n$")

    def test_log_file(self):
        with mock.patch.object(sys, "stderr", io.StringIO()) as err:
            self.train()
        self.assertEqual(len(err.getvalue().splitlines()), 1)      # in less than half a minute: the end only
        self.assertNotIn("\r", err.getvalue())
        with mock.patch.object(sys, "stderr", io.StringIO()) as err, mock.patch.object(_progress, "LOG", 0.0):
            self.train()
        self.assertGreater(len(err.getvalue().splitlines()), 1)

    def test_line_is_closed_when_a_call_fails(self):
        with mock.patch.object(sys, "stderr", Terminal()) as err:
            with self.assertRaises(KeyError):
                with _progress.reporter(True) as report:
                    report(usplit.Facts(phase="tile", done=1, total=4, seconds_left=90.0, patches_per_second=2.0))
                    raise KeyError()
        self.assertTrue(err.getvalue().endswith("1/4 tiles  2 tiles/s  left 1:30\033[K\n"), repr(err.getvalue()))

    def test_notebook(self):
        shown, updates = [], []

        class Handle:
            def update(self, thing):
                updates.append(thing)

        def display(thing, display_id=False):
            self.assertTrue(display_id)
            shown.append(thing)
            return Handle()

        ipython = types.ModuleType("IPython")
        ipython.get_ipython = lambda: types.SimpleNamespace(kernel=1)
        ipython.display = types.ModuleType("IPython.display")
        ipython.display.display = display
        with mock.patch.dict(sys.modules, {"IPython": ipython, "IPython.display": ipython.display}), \
                mock.patch.object(sys, "stderr", Terminal()) as err, mock.patch.object(_progress, "NOTEBOOK", 0.0):
            self.train()
        self.assertEqual(err.getvalue(), "")
        self.assertEqual(len(shown), 1)
        self.assertGreater(len(updates), 0)
        self.assertRegex(repr(shown[0]), r"^epoch 1")
        self.assertIn("<progress max='1' value='", updates[-1]._repr_html_())

    def test_durations(self):
        self.assertEqual([_progress.duration(s) for s in (0, 59.7, 61, 3600, 7325)],
                         ["0:00", "1:00", "1:01", "1:00:00", "2:02:05"])


class Found(Case):
    SAY = "import usplit; print(usplit.library_path)"

    def test_by_the_variable(self):
        where = self.folder() / "here.so"
        os.symlink(usplit.library_path, where)
        self.assertEnded(script(self.SAY, environment={"USPLIT_LIBRARY": str(where)}), str(where))
        failed = script(self.SAY, environment={"USPLIT_LIBRARY": "/nowhere/x.so"})
        self.assertIn("ImportError: libusplit cannot be loaded", failed.stderr)
        self.assertIn("/nowhere/x.so", failed.stderr)

    def test_beside_the_package(self):
        folder = self.folder()
        shutil.copytree(PACKAGE / "usplit", folder / "usplit")
        beside = folder / "usplit" / "libusplit.so.0"
        os.symlink(usplit.library_path, beside)
        done = script("sys.path.insert(0, sys.argv[1]); " + self.SAY, folder, environment={"USPLIT_LIBRARY": ""})
        self.assertEnded(done, str(beside))

    def test_in_the_checkout(self):
        if not (ROOT / "lib" / "libusplit.so.0").exists():
            self.skipTest("no release build in lib/")
        self.assertEnded(script(self.SAY, environment={"USPLIT_LIBRARY": ""}), str(ROOT / "lib" / "libusplit.so.0"))

    def test_in_the_system(self):
        folder = self.folder()
        shutil.copytree(PACKAGE / "usplit", folder / "usplit")
        os.symlink(usplit.library_path, folder / "libusplit.so.0")
        done = script("sys.path.insert(0, sys.argv[1]); " + self.SAY, folder,
                      environment={"USPLIT_LIBRARY": "", "LD_LIBRARY_PATH": str(folder)})
        self.assertEnded(done, "libusplit.so.0")

    def test_pip(self):
        """pip install of a copy, without a network; then used from elsewhere."""
        try:
            metadata.version("pip")
            version = tuple(map(int, metadata.version("setuptools").split(".")[:2]))
            if version < (61, 0):
                self.skipTest("setuptools is older than 61")
            if version < (70, 1):           # from then on it makes wheels itself
                metadata.version("wheel")
        except metadata.PackageNotFoundError as missing:
            self.skipTest("%s is not installed" % missing.name)
        folder = self.folder()
        shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("tests", "__pycache__"))
        install = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps",
                                  "--no-index", "--disable-pip-version-check", "--root-user-action=ignore", "--target",
                                  folder / "site", folder / "source"], capture_output=True, text=True, timeout=120)
        self.assertEqual(install.returncode, 0, install.stdout + install.stderr)
        self.assertTrue((folder / "site" / "usplit" / "py.typed").exists())
        done = script("sys.path.insert(0, sys.argv[1]); import usplit\n"
                      "print(usplit.__file__, usplit.devices()[0].name)", folder / "site",
                      environment={"USPLIT_LIBRARY": usplit.library_path})
        self.assertEnded(done, "%s cpu" % (folder / "site" / "usplit" / "__init__.py"))
