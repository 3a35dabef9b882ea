"""ENCLU leaves, as far as Python has a part in them."""
