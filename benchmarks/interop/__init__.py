"""Real clients open what this project makes; ``scripts/interop`` runs them all.

The modules in ``clients`` run in environments of their own, without this project's library.
"""
