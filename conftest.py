"""For notebooks that nbval runs: what a library writes to stderr is no result, and is not compared.

That no committed notebook holds such a line is a check of tests/test_notebooks.py.
"""


def pytest_collection_modifyitems(items):
    """Leave stderr out of what nbval compares."""
    for notebook in {item.parent for item in items if hasattr(item.parent, "skip_compare")}:
        notebook.skip_compare = (*notebook.skip_compare, "stderr")
