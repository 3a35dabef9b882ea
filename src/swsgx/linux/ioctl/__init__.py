"""The driver's ioctls: one module for each, named like it. A handler is a column of early returns."""
