"""What the tests share: a small data set, a small trained model, and scripts in processes of their own."""
import functools
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest
import warnings

PACKAGE = pathlib.Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parents[1]
sys.path.insert(0, str(PACKAGE))

import numpy as np  # noqa: E402

import usplit  # noqa: E402

# Random numbers are not like the training images; test_trust.py looks at the warning.
warnings.simplefilter("ignore", usplit.UnusualInput)

TINY = dict(family="hae", variant="lean", levels=2, lc_count=2, filters=8, z_dims=8, patch=32)
TRAINING = dict(batch=4, steps_per_epoch=4, max_epochs=2)


@functools.lru_cache(maxsize=None)
def context():
    return usplit.Context("cpu", threads=2)


@functools.lru_cache(maxsize=None)
def dataset():
    return usplit.Dataset.critters(n_frames=10, size=64, n_curves=2, kinds=1, levels=3, seed=1, context=context())


def fresh(**options):
    return usplit.Model.create(**{**TINY, **options}, context=context())


@functools.lru_cache(maxsize=None)
def trained():
    """Not to be changed by a test."""
    model = fresh()
    usplit.Trainer(model, dataset(), **TRAINING).fit()
    return model


@functools.lru_cache(maxsize=None)
def sampling():
    """A variational model, trained a little; not to be changed by a test."""
    model = fresh(family="hvae")
    usplit.Trainer(model, dataset(), **TRAINING).fit()
    return model


def image(height=70, width=90, seed=0):
    """Whole numbers up to 255, so that every pixel type holds the same image."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 30, (height, width)).astype(np.float32)


def script(text, *arguments, timeout=60, environment=None):
    """Runs Python text with the package in reach; returns the finished process."""
    head = "import sys; sys.path.insert(0, %r)\n" % str(PACKAGE)
    return subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", head + text, *map(str, arguments)],
                          capture_output=True, text=True, timeout=timeout, env={**os.environ, **(environment or {})})


class Case(unittest.TestCase):
    def folder(self):
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        return pathlib.Path(made.name)

    def interrupted(self, call, seconds=0.1):
        """As by Ctrl-C after that time."""
        def handle(*_):
            raise KeyboardInterrupt
        before = signal.signal(signal.SIGALRM, handle)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        with self.assertRaises(KeyboardInterrupt):
            call()

    def assertSame(self, a, b):
        """Equal to the bit."""
        self.assertEqual(a.shape, b.shape)
        self.assertEqual(a.dtype, b.dtype)
        self.assertEqual(np.ascontiguousarray(a).tobytes(), np.ascontiguousarray(b).tobytes())

    def assertEnded(self, process, said=None):
        """Status 0, and nothing that Python had to swallow."""
        self.assertEqual(process.returncode, 0, process.stdout + process.stderr)
        self.assertNotIn("Exception ignored", process.stderr)
        self.assertNotIn("Traceback", process.stderr)
        if said is not None:
            self.assertEqual(process.stdout.split(), said.split())
