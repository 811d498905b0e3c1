"""IIIF: requests of the Image API as parameters of ours, and the documents that describe pictures; no I/O."""
