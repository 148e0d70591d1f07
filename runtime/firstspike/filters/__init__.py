"""Filters between source and window: what is dropped before anything is made of it, and where the rest goes.

`definition` says what is dropped, `kernel` does it natively, `places` and `undistort` make the table of what is known
of each pixel, `hot_pixels` learns the pixels that never rest, `section` is the configuration's `[filter]`, and
`segment` is what the pipeline puts a segment's events through.
"""
