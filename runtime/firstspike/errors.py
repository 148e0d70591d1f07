"""What can go wrong, as a user sees it: one sentence that names the thing, the fault and the fix, and an exit code.

Exit codes are those of sysexits(3). Anything a user can cause raises one of these; the command line prints
the message without a traceback and exits with `exit_code`.
"""

from __future__ import annotations

import os


class FirstspikeError(Exception):
    """A failure with a message for the user and a sysexits code."""

    exit_code: int = os.EX_SOFTWARE


class UsageError(FirstspikeError):
    """The command was called wrongly (64)."""

    exit_code = os.EX_USAGE


class DataError(FirstspikeError):
    """A recording or a message is malformed (65)."""

    exit_code = os.EX_DATAERR


class NoInputError(FirstspikeError):
    """A file or folder that was named does not exist or cannot be read (66)."""

    exit_code = os.EX_NOINPUT


class UnavailableError(FirstspikeError):
    """Something the work needs is not there: a back end, a camera, a native library (69)."""

    exit_code = os.EX_UNAVAILABLE


class OutputError(FirstspikeError):
    """Output could not be written: full disk, closed pipe (74)."""

    exit_code = os.EX_IOERR


class ConfigError(FirstspikeError):
    """The configuration or a bundle's manifest is wrong (78)."""

    exit_code = os.EX_CONFIG


class BundleError(ConfigError):
    """A model bundle is missing a file, was changed, or describes a network that cannot run (78)."""
