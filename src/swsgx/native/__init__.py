"""What Python knows of the C side: shared tables, shared memory, and where the built images are."""
