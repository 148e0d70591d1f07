"""Where events come from: recordings now, cameras later. One file a source."""
