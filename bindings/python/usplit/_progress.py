"""Progress for people: one line that is rewritten in a terminal, a bar in a notebook, few lines in a log file."""
from __future__ import annotations

import contextlib
import math
import sys
import time
from typing import Any, Callable, Iterator, Union

from . import _abi, _structs
from ._structs import Facts

Progress = Union[None, bool, Callable[[Facts], Any]]

# Seconds between rewritten lines, between updates of a notebook, and between lines of a log file.
LIVE, NOTEBOOK, LOG = 0.1, 0.5, 30.0


def duration(seconds: float) -> str:
    whole = int(seconds + 0.5)
    return "%d:%02d:%02d" % (whole // 3600, whole // 60 % 60, whole % 60) if whole >= 3600 else \
        "%d:%02d" % (whole // 60, whole % 60)


def _decibel(value: float) -> str:
    return "-" if math.isnan(value) else "%.2f dB" % value


def line(p: Facts) -> str:
    """One line of text."""
    left = "  left %s" % duration(p.seconds_left) if p.seconds_left >= 0 else ""
    share = p.done / p.total if p.total > 0 else 0
    bar = "[%-20s] %d/%d" % ("#" * int(20 * share), p.done, p.total)
    if p.phase == "tile":
        return "%s tiles  %.3g tiles/s%s" % (bar, p.patches_per_second, left)
    if p.phase == "dip":
        return "%s iterations  loss %.4f  best reconstruction %s%s" % (bar, p.loss, _decibel(p.best_val_psnr), left)
    if p.phase == "epoch":
        return "epoch %d: loss %.4f, validation PSNR %s, learning rate %.3g" % (
            p.epoch + 1, p.loss, _decibel(p.val_psnr), p.learning_rate)
    if p.phase == "validate":
        return "epoch %d  validating %s" % (p.epoch + 1, bar)
    return "epoch %d  %s steps  loss %.4f  PSNR %s (best %s)%s" % (
        p.epoch + 1, bar, p.loss, _decibel(p.val_psnr), _decibel(p.best_val_psnr), left)


class _Text:
    """What a notebook shows: a bar where it renders HTML, else the line."""

    def __init__(self, text: str, share: float) -> None:
        self.text, self.share = text, share

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        plain = self.text.replace("&", "&amp;").replace("<", "&lt;")
        return "<progress max='1' value='%.4f'></progress> <code>%s</code>" % (self.share, plain)


def _notebook() -> Callable[..., Any] | None:
    """IPython's display, when this runs in a notebook and not in a terminal's IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display
    return display


class Display:
    """Shows progress; call it with facts, close it at the end."""

    def __init__(self) -> None:
        self._display, self._handle = _notebook(), None
        self._live = self._display is None and hasattr(sys.stderr, "isatty") and sys.stderr.isatty()
        self._interval = NOTEBOOK if self._display else LIVE if self._live else LOG
        self._last = 0.0 if self._live or self._display else time.monotonic()
        self._open = False                  # a rewritten line stands without its newline
        self._newest: Facts | None = None

    def __call__(self, p: Facts) -> None:
        self._newest = p
        ends = p.phase == "epoch"
        now = time.monotonic()
        # Epochs stay on the screen; in a log file only as often as other lines.
        if now - self._last < self._interval and not (ends and self._live):
            return
        self._last = now
        self._show(p, keep=ends)

    def _show(self, p: Facts, keep: bool) -> None:
        text = line(p)
        if self._display is not None:
            shown = _Text(text, p.done / p.total if p.total > 0 else 0)
            if self._handle is None:
                self._handle = self._display(shown, display_id=True)
            else:
                self._handle.update(shown)
        elif self._live:
            sys.stderr.write("\r%s\033[K%s" % (text, "\n" if keep else ""))
            self._open = not keep
        else:
            sys.stderr.write(text + "\n")
        if self._display is None:
            sys.stderr.flush()

    def close(self) -> None:
        if self._newest is not None and not (self._live and self._newest.phase == "epoch"):
            self._show(self._newest, keep=True)
        elif self._open:
            sys.stderr.write("\n")


@contextlib.contextmanager
def reporter(progress: Progress) -> Iterator[Callable[[Facts], Any] | None]:
    """None or False: nothing; True: a display; else the caller's function."""
    if progress is True:
        display = Display()
        try:
            yield display
        finally:
            display.close()
    elif progress is None or progress is False:
        yield None
    elif callable(progress):
        yield progress
    else:
        raise TypeError("progress is a %s; accepted: True, None, or a function of one argument"
                        % type(progress).__name__)


def callback(call, report: Callable[[Facts], Any] | None, part: int = 0, parts: int = 1) -> Any:
    """The library's progress callback. There always is one, so that Python sees signals during the call. With several
    parts (frames run one by one) the counts are those of all. A report that returns False stops the call."""
    def run(progress, _user):
        if report is None:
            return 0
        facts = _structs.facts(progress.contents)
        if parts > 1:
            facts.done += part * facts.total
            facts.total *= parts
            rest = facts.total - facts.done
            facts.seconds_left = rest / facts.patches_per_second if facts.patches_per_second > 0 else -1.0
        return 1 if report(facts) is False else 0
    return call.callback(_abi.usplit_progress_fn, run)
