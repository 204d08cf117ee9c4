"""Side-by-side timings against a plain loop and against peer libraries; `make bench` runs them."""

from tda_utils.edge import guard_if_run

guard_if_run("benchmarks")
