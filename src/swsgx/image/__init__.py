"""Enclave files, each turned into the same thing: a list of load steps, a LoadPlan."""
