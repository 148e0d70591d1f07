"""One worker's process: started without a descriptor too many, watched, ended with all that it started, buried.

A process that ended stays a zombie until `bury`: so its number still means it, and its group can be killed safely.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time

from firstspike.worker.start import Program
from firstspike.worker.stderr import Listener

NOT_THEIRS = ("PYTHON", "VIRTUAL_ENV", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")
"""Beginnings of environment variables that are not handed on: they would lead another Python to our packages, or let
the worker speak to systemd in the daemon's name."""


class StartError(Exception):
    """The program cannot be started; the text continues «the worker …»."""


class Process:
    """A worker's process. Its standard input and output are a socket's other end.

    It dies with the thread that makes it (PR_SET_PDEATHSIG follows the thread): make it in one that lives as long as
    the worker shall.

    Args:
        program: what to start.
        channel: the worker's end of a socketpair; the caller closes it.
        name: of the worker, in the log.

    Raises:
        StartError: see there.
    """

    def __init__(self, program: Program, channel: socket.socket, name: str) -> None:
        argv = program.argv()
        try:
            self._popen = subprocess.Popen(
                argv, stdin=channel.fileno(), stdout=channel.fileno(), stderr=subprocess.PIPE, bufsize=0,
                start_new_session=True, env=environment(),
            )  # fmt: skip
        except OSError as error:
            raise StartError(f"cannot be started: {argv[0]}: {error.strerror}") from None
        assert self._popen.stderr is not None  # noqa: S101 (for the type checker)
        self.pid = self._popen.pid
        self.listener = Listener(self._popen.stderr, name)
        self.end: int | None = None
        """A descriptor that is readable once the process has ended; None before Linux 5.3."""
        with contextlib.suppress(OSError):
            self.end = os.pidfd_open(self.pid)

    def exit_code(self, within_s: float) -> int | None:
        """The code that it ended with, negative for a signal; None while it lives. Leaves a zombie a zombie."""
        until = time.monotonic() + within_s
        while True:
            result = None
            try:
                result = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:  # another thread buries it just now, or SIGCHLD is ignored and nothing is known
                if (code := self._popen.poll()) is not None:
                    return code
            if result is not None:
                return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
            left = until - time.monotonic()
            if left <= 0:
                return None
            if self.end is None:
                time.sleep(min(left, 0.002))
            else:
                poll = select.poll()
                poll.register(self.end, select.POLLIN)
                poll.poll(left * 1000)

    def cause(self, within_s: float) -> str:
        """Why it ended: its signal or exit code, and what it last wrote to standard error.

        Args:
            within_s: how long to wait for either.
        """
        until = time.monotonic() + within_s
        code = self.exit_code(within_s)
        if code is None:
            return "closed its output"
        cause = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        said = self.listener.last_words(max(0.005, until - time.monotonic()))
        return f"{cause}: {said}" if said else cause

    def kill(self) -> None:
        """Kill it and the processes that it started; returns at once."""
        if self._popen.returncode is None:  # else the number may mean another process by now
            for end in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    end(self.pid, signal.SIGKILL)

    def bury(self, within_s: float) -> bool:
        """Take away what is left of a process that was killed: zombie, thread, descriptors.

        Returns:
            Whether that could be done; False: it hangs in the kernel (a device that does not answer) and has not ended.
        """
        if self.exit_code(within_s) is None:
            return False
        self._popen.wait()
        self.listener.close()
        if self.end is not None:
            os.close(self.end)
        return True


def environment() -> dict[str, str]:
    """The worker's environment: ours, less what is not for it."""
    return {key: value for key, value in os.environ.items() if not key.startswith(NOT_THEIRS)}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
