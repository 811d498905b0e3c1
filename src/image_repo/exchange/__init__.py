"""Whole collections out and in: archives, data-set formats, what neighbours leave behind."""
