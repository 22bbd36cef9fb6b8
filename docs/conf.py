"""Sphinx: `make docs`. Reference pages that must agree with the code are made from it (see docs/generate.py)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from generate import write_all

project = "Flask-Outmail"
author = "The Flask-Outmail authors"
copyright = author
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Flask-Outmail"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
myst_heading_anchors = 3


def setup(app: object) -> None:
    write_all(Path(__file__).parent)
