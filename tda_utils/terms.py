"""Words that mean the same everywhere: in tables, figures, pages and tools."""

#: The short name of each attribution method, in the order in which tables list them.
METHOD_LABELS: dict[str, str] = {
    "loo": "LOO",
    "ats": "ATS",
    "influence": "IF",
    "grad_dot": "GD",
    "grad_cos": "GC",
}
