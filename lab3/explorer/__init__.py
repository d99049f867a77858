"""The schedule explorer: its decodings, its widgets, its page."""
