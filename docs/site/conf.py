"""Settings of the documentation site, see `docs/__main__.py`."""

import pathlib
import re
import sys

import sphinx.pycode.parser

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import docstrings  # noqa: E402

import common_flax  # noqa: E402

project = 'gan_flax, vae_flax, vq_flax'
author = 'the authors'
version = release = common_flax.__version__
root_doc = 'index'
extensions = [
  'myst_nb',
  'sphinx.ext.autodoc',
  'sphinx.ext.napoleon',
  'sphinx.ext.viewcode',
  'sphinx_copybutton',
  'sphinxcontrib.katex',
]

# Pages. `$...$` and `$$...$$` are formulas here and on GitHub.
myst_enable_extensions = ['dollarmath', 'html_image']
myst_heading_anchors = 4
myst_links_external_new_tab = False
nb_execution_in_temp = True  # a run of an earlier build would be resumed
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

# The reference. A name that two modules offer has its source in its own.
default_role = 'py:obj'
viewcode_follow_imported_members = False
autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_typehints_format = 'short'
autodoc_default_options = {
  'members': True,
  'no-value': True,
  'show-inheritance': True,
}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
maximum_signature_line_length = 72
add_module_names = False
toc_object_entries_show_parents = 'hide'
python_use_unqualified_type_names = True
# Fields and constants are documented by plain comments; Sphinx expects `#:`.
sphinx.pycode.parser.comment_re = re.compile('^\\s*#:? ?(.*)\r?\n?$')

# Everything that a page needs comes with the site: it works without a network.
html_theme = 'furo'
html_title = 'GANs and VAEs in JAX and Flax'
html_static_path = [str(HERE / 'static')]
html_css_files = ['site.css']
html_favicon = str(HERE / 'static/favicon.svg')
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
katex_css_path = 'katex/katex.min.css'
katex_options = 'throwOnError: true, strict: "error"'
copybutton_exclude = '.linenos, .gp, .go'


def setup(app):
  """Registers what changes docstrings; called by Sphinx."""
  docstrings.setup(app)
