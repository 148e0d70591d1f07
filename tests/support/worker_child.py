"""Run beside a worker's SDK, under its Python: loads a driver as the shim would, and runs one expression with it.

    python worker_child.py ROOM DRIVER EXPRESSION [ARGUMENT ...]

The result is printed as one line of JSON, the last of standard output. `driver` is the driver's module, `arguments`
the rest of the command line; an exception that the driver means for its user is {"error": …, "text": …, "fix": …}.
"""

import json
import sys
from pathlib import Path


def load(room, name):
    """The driver's module, with its siblings."""
    space = {"__name__": "firstspike.worker.shim"}
    exec(compile((room / "worker" / "shim.py").read_text("utf-8"), "shim.py", "exec"), space)  # noqa: S102
    space["module_from"]("firstspike.worker.shim", "").__dict__.update(space)

    def module(full):
        return space["module_from"](full, room.joinpath(*full.split(".")[1:]).with_suffix(".py").read_text("utf-8"))

    text = (room / "backends" / (name + ".py")).read_text("utf-8")
    siblings = next((line for line in text.splitlines() if line.startswith("SIBLINGS = ")), "SIBLINGS = ()")
    exec(siblings, space)  # noqa: S102
    for sibling in space["SIBLINGS"]:
        module(sibling if "." in sibling else "firstspike.backends." + sibling)
    return module("firstspike.backends." + name), space["AbsentError"]


def main():
    """Print what the expression gives."""
    room, name, expression = sys.argv[1:4]
    driver, absent = load(Path(room), name)
    values = {"driver": driver, "arguments": sys.argv[4:], "Path": Path, "json": json}
    options = {key: option.default for key, option in driver.OPTIONS.items()}
    values["options"] = lambda **changed: dict(options, **changed)
    try:
        result = eval(expression, values)  # noqa: S307
    except (absent, ValueError, RuntimeError) as error:
        result = {"error": type(error).__name__, "text": str(error), "fix": getattr(error, "fix", "")}
    sys.stdout.write("\n" + json.dumps(result) + "\n")


main()
