"""The configuration's sections that belong to a file of ours: `[source.KIND]` and `[backend.NAME]`.

All of them are checked, also those that are not in use: a switch must not uncover old mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from firstspike import plugins
from firstspike.config_layers import Key, Layers
from firstspike.errors import ConfigError


class PluginSection(BaseModel):
    """`[source]`: `kind` names a file, whose own section beneath holds its keys."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str


JOINT = "+"
"""Between the back ends of a plan that runs a model in parts."""


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """A back end that the configuration asks for."""

    name: str
    """Its section, `[backend.NAME]`, and what it is called in messages."""
    kind: str
    """Its file in backends/; of a chain, those of its parts, joined."""
    options: BaseModel
    parts: tuple[BackendChoice, ...] = ()
    """Of a chain `FRONT+BACK`: who runs each part of the model; empty: one back end runs it all."""
    meter: str | None = None
    """The energy meter that has this back end in it; None: the machine's."""


class _Nothing(BaseModel):
    """A chain has no section of its own: its parts have theirs."""

    model_config = ConfigDict(frozen=True)


def source_options(section: PluginSection, layers: Layers, faults: list[str]) -> BaseModel:
    """The options of the source that is named; what is wrong is added to `faults`."""
    known = plugins.names("sources")
    tables = section.model_extra or {}
    for key, value in tables.items():
        if key not in known:
            faults.append(
                f"source.{key} = {value!r:.60} ({layers.origin(('source', key))}): unknown key: here are 'kind' and "
                f"the sections {', '.join(f'[source.{kind}]' for kind in known)}"
            )
        elif not isinstance(value, dict):
            faults.append(f"source.{key} = {value!r:.60} ({layers.origin(('source', key))}): must be a section")
        elif key != section.kind:
            _validate(plugins.load("sources", key).Options, value, ("source", key), layers, faults)
    if section.kind not in known:
        faults.append(_no_such("sources", section.kind, ("source", "kind"), layers))
        return section
    table = tables.get(section.kind, {})
    return _validate(
        plugins.load("sources", section.kind).Options, table if isinstance(table, dict) else {},
        ("source", section.kind), layers, faults,
    )  # fmt: skip


def backend_choices(
    sections: dict[str, dict[str, Any]], plans: Sequence[str], layers: Layers, faults: list[str]
) -> tuple[BackendChoice, ...]:
    """The back ends of the plans, in their order; what is wrong is added to `faults`.

    A plan is the name of a back end, or of one for each part of a hybrid: `emulator+openvino`.

    Args:
        sections: `[backend.NAME]`; one that a plan names may be left out if its name is a kind.
        plans: `schedule.plans`.
        layers: for origins.
        faults: lines for the user.
    """
    known = plugins.names("backends")
    found: dict[str, BackendChoice] = {}
    for name in dict.fromkeys([*sections, *(part for plan in plans for part in plan.split(JOINT))]):
        table = dict(sections.get(name, {}))
        kind = table.pop("kind", name)
        meter = table.pop("meter", None)
        if meter is not None and not isinstance(meter, str):
            origin = layers.origin(("backend", name, "meter"))
            faults.append(
                f"backend.{name}.meter = {meter!r:.60} ({origin}): must be a name that `firstspike meters` lists"
            )
        if kind in known:
            options = plugins.load("backends", kind).Options
            valid = _validate(options, table, ("backend", name), layers, faults)
            found[name] = BackendChoice(name, kind, valid, meter=meter)
        elif name in sections:
            key = ("backend", name, "kind") if "kind" in sections[name] else ("backend", name)
            faults.append(_no_such("backends", kind, key, layers))
        else:
            where = layers.origin(("schedule", "plans"))
            there = ", ".join(dict.fromkeys([*known, *sections]))
            faults.append(f"schedule.plans names {name!r} ({where}): no back end is called so: there are {there}")
    if len(set(plans)) != len(plans):
        faults.append(f"schedule.plans = {list(plans)} ({layers.origin(('schedule', 'plans'))}): a name stands twice")
    wanted = [(plan, plan.split(JOINT)) for plan in dict.fromkeys(plans)]
    return tuple(_plan(plan, [found[name] for name in names]) for plan, names in wanted if found.keys() >= set(names))


def _plan(name: str, parts: list[BackendChoice]) -> BackendChoice:
    if len(parts) == 1:
        return parts[0]
    return BackendChoice(name, JOINT.join(part.kind for part in parts), _Nothing(), tuple(parts))


def _no_such(room: plugins.Room, kind: object, key: Key, layers: Layers) -> str:
    try:
        plugins.load(room, str(kind))
    except ConfigError as error:
        return f"{'.'.join(key)} = {kind!r:.60} ({layers.origin(key)}): {error}"
    raise AssertionError(kind)


def _validate(
    options: type[BaseModel], table: dict[str, Any], key: Key, layers: Layers, faults: list[str]
) -> BaseModel:
    try:
        return options.model_validate(table)
    except ValidationError as error:
        faults.extend(explain(error, key, layers))
        return options.model_construct()


def explain(error: ValidationError, prefix: Key, layers: Layers) -> list[str]:
    """One line a fault, in the words of a configuration file."""
    lines = []
    for fault in error.errors():
        key = prefix + tuple(str(part) for part in fault["loc"])
        name, where = ".".join(key), layers.origin(key)
        match fault["type"]:
            case "missing":
                place = f"set it in {layers.main_file}" if layers.main_file else "name a file: --config FILE"
                lines.append(f"{name}: missing, and it has no default: {place}")
            case "extra_forbidden":
                lines.append(f"{name} = {fault['input']!r:.60} ({where}): unknown key")
            case "dict_type" if key[0] == "backend" and len(key) == 2:
                hint = "back ends are named in schedule.plans, their keys stand in sections [backend.NAME]"
                lines.append(f"{name} = {fault['input']!r:.60} ({where}): unknown key: {hint}")
            case _:
                said = fault["msg"].removeprefix("Value error, ")  # pydantic's word before ours
                lines.append(f"{name} = {fault['input']!r:.60} ({where}): {said}")
    return lines
