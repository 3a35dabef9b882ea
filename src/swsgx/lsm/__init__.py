"""Security modules for enclaves, and the stack that asks them. They plug into :mod:`swsgx.linux.security`."""
