"""Fetch a file with a package manager, and check it against a pinned SHA-256."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from zero2chat.core.errors import UserError
from zero2chat.core.fingerprints import file_digest


def fetch_pinned(file: Path, command: Sequence[str], sha256: str, hint: str = "") -> Path:
    """Return the file. If it is missing, first run the command, which fetches it into its folder.

    The command's last word is the package or the address. Raises `UserError` if the command fails (the message ends
    with `hint`), or if the SHA-256 differs.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        if shutil.which(command[0]) is None:
            raise UserError(
                f"{command[0]} is needed to fetch {file.name}: install it, or put the file into {file.parent}"
            )
        done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=False)
        if done.returncode or not file.exists():
            said = " ".join(done.stderr.split())[-200:] or "no file was downloaded"
            raise UserError(f"{command[-1]}: {command[0]} cannot fetch this file: {said}{hint}")
    if file_digest(file) != sha256:
        raise UserError(f"{file}: its SHA-256 is not the listed one: remove the file and fetch it again")
    return file
