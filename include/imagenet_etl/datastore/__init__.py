"""The datastore: which versions of which datasets there are, and where their copies are."""
