"""ENCLS: one module for each leaf, named like it. Every leaf checks first, in the manual's order, then commits."""
