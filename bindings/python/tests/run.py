#!/usr/bin/env python3
"""Runs the tests and prints TAP, a line per case, for test/check/run_tests. Without numpy: status 77.

    run.py [FOLDER-OF-THE-LIBRARY]
"""
import os
import pathlib
import sys
import time
import traceback
import unittest

HERE = pathlib.Path(__file__).resolve().parent


class Tap(unittest.TestResult):
    count = 0

    def say(self, test, ok, note="", text=""):
        self.count += 1
        print("%s %d - %s%s" % ("ok" if ok else "not ok", self.count, test.id(), note))
        for line in text.rstrip().splitlines():
            print("# " + line)
        sys.stdout.flush()

    def startTest(self, test):
        super().startTest(test)
        self.begun = time.monotonic()

    def addSuccess(self, test):
        self.say(test, True, " (%.2f s)" % (time.monotonic() - self.begun))

    def addSkip(self, test, reason):
        print("skip: " + reason)
        self.say(test, True, " # SKIP")

    def _failed(self, test, error):
        self.say(test, False, text="".join(traceback.format_exception(*error)))

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self._failed(test, error)

    def addError(self, test, error):
        super().addError(test, error)
        self._failed(test, error)

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.addFailure(test, error)


def main():
    try:
        import numpy  # noqa: F401
    except ImportError:
        print("numpy is not installed for %s (Debian package python3-numpy)" % sys.executable)
        return 77
    if len(sys.argv) > 1:
        os.environ["USPLIT_LIBRARY"] = str(next(pathlib.Path(sys.argv[1]).resolve().glob("libusplit.so.?")))
    # Colours and a folder for installed packages of the user's would change what is tested.
    os.environ["PYTHONNOUSERSITE"] = "1"
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(HERE.parent))
    suite = unittest.defaultTestLoader.discover(str(HERE), top_level_dir=str(HERE.parent))
    print("1..%d" % suite.countTestCases(), flush=True)
    result = Tap()
    suite.run(result)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
