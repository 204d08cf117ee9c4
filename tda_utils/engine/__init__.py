"""The engine: train many models, each a point in (initialisation, order, weights of samples)."""
