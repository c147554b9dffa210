"""The explorer: looks into trained runs, in a browser on this machine.

`python -m common_flax.explore --workdir=DIR` opens it. What a page shows are
pure functions of a trained run; each family has its own pages beside them.

The pages are NiceGUI's. It was chosen before Gradio, which most people in the
field know: NiceGUI keeps the state of a page by visitor, ships its fonts and
scripts instead of loading fonts from Google, and sends no reports to anybody.
"""
