"""The SGX driver of the kernel, in Python: nodes, ioctls, memory calls and the rules between them."""
