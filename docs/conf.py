"""How Sphinx builds the site: ``sphinx-build -W docs FOLDER``, with ``pip install ".[docs]"``."""

import sys
from pathlib import Path

import pyflow

sys.path.insert(0, str(Path(__file__).parent))

project = "pyflow"
author = "the authors of pyflow"
copyright = author
version = release = pyflow.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc", "generated"]
exclude_patterns = ["snakemake"]

# Markdown, as GitHub shows it too
myst_heading_anchors = 4
myst_links_external_new_tab = False

# Docstrings: names in backticks are links where there is such a name
smartquotes = False
default_role = "py:obj"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 60
toc_object_entries_show_parents = "hide"
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}
numpydoc_show_class_members = False
# all but types, which stand in the signatures; sections that a line needs not; and how a sentence may begin
numpydoc_validation_checks = {"all"} | {
    *("ES01", "EX01", "GL02", "PR01", "PR03", "PR04", "PR08", "RT01", "RT03", "RT04", "SA01", "SS05"),
}

html_theme = "furo"
html_title = "pyflow"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False

# Fields of named tuples have no docstring of ours
numpydoc_validation_exclude = {r"UnitKey\.\w+$"}
