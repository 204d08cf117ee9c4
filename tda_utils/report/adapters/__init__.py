"""Adapters: scores of other libraries and files as labelled cubes, one library a file.

Each is a few lines that turn what the library gives into `tda_utils.report.form.cube`: which axis
is which, and what a positive score means. None imports the library that it is for unless it calls
it: whoever has its result has it.
"""
