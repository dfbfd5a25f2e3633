"""Runs a command in this process."""

import io
from unittest.mock import patch

from rich.console import Console

import jaxopt_lite.__main__ as command_line


def run(*words: str, width: int = 80) -> tuple[int, str]:
    """The exit status of a command and what it printed."""
    console = Console(file=io.StringIO(), width=width)
    with patch.object(command_line, "Console", lambda **_: console):
        status = command_line.main(words)
    return status, console.file.getvalue()
