"""The explorer: `page` turns scores into one page, `build` computes the scores and writes it."""
