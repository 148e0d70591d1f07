"""Runs under Lava's Python: a SLAYER network by lava-dl's netx in fixed point, without torch; every layer's spikes.

    python netx_child.py NET.net IN.npz OUT.npz

IN holds `frames` (samples, steps, channels, height, width); OUT gets `layer0`, `layer1`, … (samples, steps, …), each
in its layer's own time. netx itself asks for torch in three places that a CUBA network never reaches. Lava's compiler
runs every Python file beside a module that it looks at: run this from a folder of its own.
"""

import sys
import types

import numpy as np


def without_torch():
    for name in ("lava.lib.dl.slayer", "lava.lib.dl.slayer.neuron"):
        module = types.ModuleType(name)
        module.__path__ = []
        module.__file__ = __file__
        sys.modules[name] = module
    resonate = types.ModuleType("lava.lib.dl.slayer.neuron.rf")
    resonate.neuron_params = None
    modules = types.ModuleType("lava.lib.dl.netx.sequential_modules")
    for module in (resonate, modules):
        module.__file__ = __file__
        sys.modules[module.__name__] = module


def main(net, source, target):
    without_torch()
    from lava.lib.dl import netx
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source

    frames = np.load(source)["frames"]
    samples, steps = frames.shape[:2]
    # Input of step t (from 1) reaches the first neurons at t + 1, when they must have been reset.
    network = netx.hdf5.Network(net, reset_interval=steps, reset_offset=1)
    stream = frames.reshape(-1, *frames.shape[2:]).transpose(3, 2, 1, 0)  # netx counts (x, y, channel)
    if len(network.inp.shape) == 1:  # dense layers, in C order
        stream = frames.reshape(samples * steps, -1).T
    pad = np.zeros((*stream.shape[:-1], len(network.layers) + 1), stream.dtype)
    stream = np.concatenate([stream, pad], -1).astype(int)
    driver = Source(data=stream)
    driver.s_out.connect(network.inp)
    sinks = []
    for layer in network.layers:
        sink = Sink(shape=layer.out.shape, buffer=stream.shape[-1])
        layer.out.connect(sink.a_in)
        sinks.append(sink)
    sinks[-1].run(condition=RunSteps(stream.shape[-1]), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    found = {}
    for number, sink in enumerate(sinks):
        spikes = sink.data.get()[..., number + 1 : number + 1 + samples * steps]
        found[f"layer{number}"] = (
            np.moveaxis(spikes, -1, 0).reshape(samples, steps, *spikes.shape[:-1]).astype(np.uint8)
        )
    sinks[-1].stop()
    np.savez(target, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
