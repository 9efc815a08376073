"""The one exception type that a user of the command line is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: one clear line naming the file, flag or field, what was wrong and what would be right.

    Entry points turn it into ``error: ...`` on stderr and exit code 2 (see ``experiments/cli.py``); anything else that
    is raised is a defect of ours and keeps its traceback.
    """

    def __str__(self) -> str:
        # Messages quote foreign exceptions, which may span lines; the promise to the user is one line.
        return " ".join(super().__str__().split())
