"""Tests of the Python package: `python3 -m unittest` in bindings/python, or `make check-bindings`.

The library is the one that USPLIT_LIBRARY names, else the checkout's lib/. Everything is done with a very small network
on synthetic data; what is tested is the way through the package, not what a network learns.
"""
import unittest

try:
    import numpy  # noqa: F401
except ImportError:
    raise unittest.SkipTest("numpy is not installed")
