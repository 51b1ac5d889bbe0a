"""Sphinx configuration: MyST pages, the furo theme, no network; a dead link is an error."""

from importlib.metadata import version as installed

project = "Shipworthy"
author = "The Shipworthy developers"
copyright = author
version = release = installed("shipworthy")

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Shipworthy"
html_show_copyright = False
html_show_sphinx = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]
# Links to files of the repository outside of docs/ are checked by tests/docs instead.
myst_url_schemes = ["http", "https", "mailto"]
suppress_warnings: list[str] = []
