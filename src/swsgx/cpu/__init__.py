"""The machine: EPC, EPCM, and the leaf functions that change them, with all their checks in the manual's order."""
