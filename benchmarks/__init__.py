"""Measurements of this project against the usual recipe and its peers."""
