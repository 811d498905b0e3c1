"""Collection: queries, statistics and changes of many images at once, over the catalogue."""
