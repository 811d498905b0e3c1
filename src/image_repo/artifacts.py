"""Artifacts: exact bytes under their SHA-256."""
