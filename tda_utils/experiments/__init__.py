"""Experiments: plain values that name scores, the store that keeps them, and what sums them up."""
