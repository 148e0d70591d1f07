"""Vendor SDKs live in processes of their own: `shim` is the child's end, `link` the daemon's, `supervisor` keeps one."""
