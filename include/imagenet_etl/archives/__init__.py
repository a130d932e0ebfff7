"""Archives read in place: which members they hold, where those lie, and which are accepted."""
