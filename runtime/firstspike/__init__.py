"""firstspike: an edge runtime daemon for event cameras."""

__version__ = "0.1.0"
