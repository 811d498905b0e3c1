"""Snapshots: a query frozen as a manifest, so that a paper can cite the very pictures it used."""
