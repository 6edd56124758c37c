"""Find the package's files (accelerate configs, chat templates and recipes), and the files of the user's modules.

The package's files are in a wheel's folder `bundled` (pyproject.toml maps them there), or at the root of a clone.
"""

from __future__ import annotations

from pathlib import Path

FOLDERS = ("accelerate_configs", "chat_templates", "recipes")
_BUNDLED = Path(__file__).parents[1] / "bundled"
HOME = _BUNDLED if _BUNDLED.is_dir() else Path(__file__).parents[3]


def find(path: str | Path) -> Path:
    """Return the path if it exists in the working folder, else the package's file or folder of this name, if any.

    For example, `chat_templates/chatml.jinja` and `recipes/quickstart` are found in any working folder.
    """
    path = Path(path)
    if path.parts[:1] and path.parts[0] in FOLDERS and ".." not in path.parts and not path.exists():
        ours = HOME / path
        return ours if ours.exists() else path
    return path


def own_file(name: str) -> str | None:
    """Return the file in the working folder that a dotted name, such as `my_rewards.polite`, refers to, or None."""
    parts = name.split(".")
    if len(parts) < 2 or len(name) > 255 or not all(part.isidentifier() for part in parts):
        return None
    modules = (Path(*parts[:n]) for n in range(len(parts), 0, -1))
    files = (file for module in modules for file in (module.with_suffix(".py"), module / "__init__.py"))
    return next((str(file) for file in files if file.is_file()), None)
