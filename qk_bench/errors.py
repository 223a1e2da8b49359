"""The one exception family of the project: every user's mistake is a `QKBenchError` and is shown as one line."""

from __future__ import annotations

import errno
import re
from typing import Final

from qk_bench.text import plain

MAX_LINE: Final = 300
FULL_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The numbers of an `OSError` that says that nothing more can be written."""


class QKBenchError(Exception):
    """A mistake a user can mend. The command line prints `message` and `mend` on one line and exits with `exit_code`.

    Args:
        message: What is wrong, naming the file and the field.
        mend: What to do about it; empty where the message says it all.
    """

    exit_code = 2

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        """One line: the message, then the mend."""
        return f"{self.message} ({self.mend})" if self.mend else self.message


class UsageError(QKBenchError):
    """Bad input or bad use of the command line (exit code 2)."""


class DamagedRunError(QKBenchError):
    """A run directory or result file that cannot be trusted as it is (exit code 3)."""

    exit_code = 3


class NotComparableError(QKBenchError):
    """Two results that must not be compared, with the difference named (exit code 3)."""

    exit_code = 3


class UnusableModelError(QKBenchError):
    """What `Model.generate` raises when it can answer nothing more: the rest of its requests are left open, not failed."""


class FullDiskError(QKBenchError):
    """Nothing more can be written; everything stored so far is whole (exit code 2)."""


def one_line(error: BaseException) -> str:
    """An exception as one bounded line, the same in every process: addresses are masked, white space is folded."""
    try:
        text = str(error)
    except Exception:  # an exception that cannot say what it is
        text = ""
    text = re.sub(r"\b0x[0-9a-fA-F]{6,}\b", "0x…", text)
    return folded(f"{type(error).__name__}: {text}" if text.strip() else type(error).__name__)


def folded(text: str) -> str:
    """Text from elsewhere as one bounded line that can be printed and stored: no control characters, no surrogates."""
    line = plain(" ".join(text.split()))
    return line if len(line) <= MAX_LINE else line[: MAX_LINE - 1] + "…"
