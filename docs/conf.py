# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx settings of "make docs". Nothing is fetched: no intersphinx, a theme that comes with Sphinx."""

from __future__ import annotations

project = "excloud.diskengine"
html_title = "excloud.diskengine"
extensions = ["sphinx_antsibull_ext", "myst_parser"]
myst_heading_anchors = 4
suppress_warnings = ["misc.highlighting_failure"]  # blocks of what is no language
html_theme = "alabaster"
html_theme_options = {"page_width": "1200px", "sidebar_width": "280px"}
html_copy_source = False
html_use_index = False
pygments_style = "ansible"
highlight_language = "YAML+Jinja"
default_role = "any"
