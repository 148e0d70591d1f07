"""`python -m firstspike`: the same as the `firstspike` program."""

from firstspike.cli import entry

if __name__ == "__main__":
    entry()
