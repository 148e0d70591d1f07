"""Vendor SDKs live in processes of their own.

`shim` is the child's end of the link and `link` the daemon's; `start` says how a worker is started and `process` does
it; `stderr` hears what it prints; `supervisor` keeps one, and `restarts` says when it starts again. `backend` and
`options` make of a driver's file a back end like any other.
"""
