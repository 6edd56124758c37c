"""The site: the pages in docs/, the README and the recipes' READMEs. `make docs` builds it, and a warning is an error.

The source folder is the repository, so that the pages link to each other on GitHub and in the site alike.
"""

from pathlib import Path

_ROOT = Path(__file__).parents[1]
_PAGES = ("docs", "recipes", "chat_templates", "README.md")

project = "zero2chat"
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["README.md", "docs/*.md", "docs/course/*.md", "recipes/**README.md", "chat_templates/README.md"]
# All else is not even looked at: the data, the runs and the environments are large.
exclude_patterns = sorted(path.name for path in _ROOT.iterdir() if path.name not in _PAGES)

html_theme = "furo"
html_title = "zero2chat"
html_copy_source = False
html_extra_path = ["site"]  # index.html, which leads to docs/index.html

# As GitHub names the headings of a page, so that one link serves both.
myst_heading_anchors = 3
