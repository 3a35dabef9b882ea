"""Memory calls on enclave mappings, a module each: generic kernel code as far as it shows, and the driver's."""
