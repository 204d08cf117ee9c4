"""Side-by-side timings against a plain loop and against peer libraries; `make bench` runs them."""
