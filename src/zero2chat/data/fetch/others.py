"""Word problems that others wrote, for measuring only: ASDiv (CC BY-NC 4.0) and SVAMP (MIT).

    python -m zero2chat.data.fetch.others data/others

downloads both files from GitHub at pinned commits with `curl`, and checks their SHA-256. Nothing trains on them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from zero2chat.core.errors import exit_on_mistake
from zero2chat.data.fetch.pinned import fetch_pinned

HOST = "https://raw.githubusercontent.com"
FILES = {  # repository, commit and path, with the SHA-256
    "chaochun/nlu-asdiv-dataset/883f90a9a65bf00304ba8f37423910fe743abc47/dataset/ASDiv.xml": (
        "ef8904068482919ac48c8eeaaf6df344b8a308ba66d048c2d4d87eab82dc4929"
    ),
    "arkilpatel/SVAMP/689d7ccac74b9983a2ac7cc3b264f441b99e7c53/SVAMP.json": (
        "5be77703a6d891ae476d7c082787ad361392aa02453b132516cdd5f4e7934e3e"
    ),
}


def make(folder: Path) -> None:
    """Download the files that are missing. Raises `UserError` as `fetch_pinned` does."""
    for path, sha256 in FILES.items():
        curl = ["curl", "--fail", "--silent", "--show-error", "--remote-name", f"{HOST}/{path}"]
        fetch_pinned(folder / Path(path).name, curl, sha256)


if __name__ == "__main__":
    with exit_on_mistake():
        make(Path(sys.argv[1]))
