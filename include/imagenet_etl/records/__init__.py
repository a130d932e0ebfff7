"""Record formats: one writer contract, one module a format."""
