"""The site of the course: `build` lays out `notebooks`, the `reference` and the other pages."""
