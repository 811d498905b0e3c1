"""Reconcile: the index is held against the container, and made to follow it."""
