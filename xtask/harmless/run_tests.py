"""Runs tests of CPython's own and writes how each ended: `run_tests.py FILE MODULE [PART...]`.

With parts only tests whose ids contain one of them run; a part that starts with `-` leaves out those that contain the rest."""

import importlib
import sys
import unittest


def chosen(suite, parts):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from chosen(test, parts)
            continue
        wanted = [part for part in parts if not part.startswith("-")]
        left_out = [part[1:] for part in parts if part.startswith("-")]
        if (not wanted or any(part in test.id() for part in wanted)) and not any(part in test.id() for part in left_out):
            yield test


class Result(unittest.TextTestResult):
    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.outcomes = {}

    def note(self, test, outcome):
        # The worst of a test's parts is the test's.
        order = ["ok", "skipped", "expected failure", "unexpected success", "failed", "error"]
        before = self.outcomes.get(test.id(), "ok")
        self.outcomes[test.id()] = max(before, outcome, key=order.index)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.note(test, "ok")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.note(test, "skipped")

    def addExpectedFailure(self, test, error):
        super().addExpectedFailure(test, error)
        self.note(test, "expected failure")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.note(test, "unexpected success")

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.note(test, "failed")

    def addError(self, test, error):
        super().addError(test, error)
        self.note(test, "error")

    def addSubTest(self, test, part, error):
        super().addSubTest(test, part, error)
        if error is not None:
            self.note(test, "failed" if issubclass(error[0], test.failureException) else "error")


def main():
    file, module, *parts = sys.argv[1:]
    from test import support

    # Nothing that needs the network, much memory or a long time.
    support.use_resources = []
    tests = unittest.TestLoader().loadTestsFromModule(importlib.import_module(module))
    tests = unittest.TestSuite(chosen(tests, parts))
    result = unittest.TextTestRunner(verbosity=2, resultclass=Result).run(tests)
    with open(file, "w") as out:
        for name in sorted(result.outcomes):
            out.write(f"{name}\t{result.outcomes[name]}\n")


if __name__ == "__main__":
    main()
