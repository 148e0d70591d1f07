"""Processes of their own for vendor SDKs: `shim` is the child's end, `link` the daemon's, `supervisor` keeps one."""
