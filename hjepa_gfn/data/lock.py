"""One builder at a time: a lock file that the kernel lets go of when its holder dies, however it dies."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from hjepa_gfn.errors import UserError


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Holds the lock `path` while the context lasts, then removes the file.

    A file that a dead process left behind is no obstacle: what counts is the kernel's lock on it.

    Raises:
        UserError: a living process holds it, or the file cannot be written. `what`: what is locked, for the message.
    """
    file = _take(path, what)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is still held, so that nobody else's file is removed
        os.close(file)


def _take(path: Path, what: str) -> int:
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(f"{path}: cannot write there: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 200, 0).decode(errors="replace").strip() or "unknown"
            os.close(file)
            raise UserError(f"{what} is being built by another process ({holder}): wait for it, or stop it") from None
        except OSError:
            os.close(file)
            raise
        # The last holder may have removed the file between our opening and locking it: then somebody else can lock a new one.
        if _is_still(path, file):
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            return file
        os.close(file)


def _is_still(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False
