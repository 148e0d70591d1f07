"""The three kinds of networks as the driver sees them: how a window goes in, and what spikes make the answer."""

from typing import Any, Dict, List

import numpy as np

from firstspike.backends import _lava_cuba, _lava_network, _lava_plan, _lava_rate
from firstspike.backends._lava_layout import Place, Plan


class Form:
    """One network.

    Args:
        model: of LOAD.
        plan: of its network.
        shape: of the network's input: (channels, height, width).

    Raises:
        ValueError: the network takes another shape.
    """

    plan: Plan
    """What is built on Lava."""

    def __init__(self, model: Dict[str, Any], plan: Plan, shape: Any) -> None:
        self.plan = plan
        self.shape = (model["channels"], model["height"], model["width"])
        self.steps = model["steps"]
        if shape != self.shape:
            raise ValueError("its network takes %s, the bundle says otherwise" % (shape,))

    def inject(self, window: Any) -> Any:
        """What the inputs send at each step (steps, inputs), 0 or 1.

        Raises:
            ValueError: the window is none of this network.
        """
        raise NotImplementedError

    def answer(self, spikes: Dict[str, Any], state: Any, *, trace: bool) -> Dict[str, Any]:
        """The answer from what `_lava_run.Running.run` returns; `trace`: with every layer's spikes.

        Raises:
            RuntimeError: such spikes cannot be.
        """
        raise NotImplementedError

    def _traced(self, layers: List[Any]) -> Dict[str, Any]:
        return {"spikes_%d" % number: layer for number, layer in enumerate(layers)}

    def _check_times(self, times: Any) -> None:
        if times.shape != self.shape:
            raise ValueError("a window of shape %s, the network takes %s" % (times.shape, self.shape))
        if times.max() > self.steps:
            raise ValueError("a spike at step %d, the input has %d steps" % (times.max(), self.steps))


class Times(Form):
    """Values are times: `spikes_<n>` is int32 of layer n's shape, the global step of each neuron's spike."""

    def __init__(self, model: Dict[str, Any], network: _lava_network.Network) -> None:
        super().__init__(model, _lava_plan.plan(network), network.input_shape)

    def inject(self, window: Any) -> Any:
        """See `Form.inject`."""
        self._check_times(window)
        return window.reshape(-1) == np.arange(self.plan.period)[:, None]

    def answer(self, spikes: Dict[str, Any], state: Any, *, trace: bool) -> Dict[str, Any]:
        """See `Form.answer`."""
        places = self.plan.places if trace else self.plan.places[-1:]
        layers = [self._first(place, spikes[place.population]) for place in places]
        # Loihi's potentials have 6 bits below the unit of weights.
        found = {"potential": (state >> 6).astype(np.int32), "first_spike": layers[-1].reshape(-1)}
        if trace:
            found.update(self._traced(layers))
        return found

    @staticmethod
    def _first(place: Place, raster: Any) -> Any:
        counts = raster.sum(0)
        if np.any(counts != 1):
            raise RuntimeError("%d neurons of %s spiked not once" % (int((counts != 1).sum()), place.population))
        return (raster.argmax(0) - place.shift).astype(np.int32).reshape(place.shape)


class Rates(Form):
    """Values are numbers of spikes: `spikes_<n>` is int32 of layer n's shape, how often each neuron spiked."""

    def __init__(self, model: Dict[str, Any], network: _lava_network.Network) -> None:
        super().__init__(model, _lava_rate.plan(network), network.input_shape)
        self._network = network

    def inject(self, window: Any) -> Any:
        """See `Form.inject`."""
        self._check_times(window)
        return _lava_rate.inject(self._network, window)[None]

    def answer(self, spikes: Dict[str, Any], state: Any, *, trace: bool) -> Dict[str, Any]:
        """See `Form.answer`."""
        duration, last = self._network.duration, self.plan.places[-1]
        raster = spikes[last.population][last.shift :][:duration]
        first = np.where(raster.any(0), raster.argmax(0), duration)
        found = {"potential": state.astype(np.int32), "first_spike": first.astype(np.int32)}
        if trace:
            found.update(self._traced([self._counts(place, spikes, duration) for place in self.plan.places]))
        return found

    @staticmethod
    def _counts(place: Place, spikes: Dict[str, Any], duration: int) -> Any:
        if not place.population:
            return np.zeros(place.shape, np.int32)
        raster = spikes[place.population][place.shift :][:duration]
        return raster.sum(0).astype(np.int32).reshape(place.shape)


class Front(Form):
    """A hybrid's front: binary frames in; `spikes`, uint8 (steps, *last layer's shape), out.

    `spikes_<n>` is the same of layer n.
    """

    def __init__(self, model: Dict[str, Any], network: _lava_cuba.Network) -> None:
        super().__init__(model, _lava_cuba.plan(network, model["steps"]), network.input_shape)

    def inject(self, window: Any) -> Any:
        """See `Form.inject`."""
        if window.shape != (self.steps, *self.shape):
            raise ValueError("frames of shape %s, the network takes %s" % (window.shape, (self.steps, *self.shape)))
        if window.max() > 1:
            raise ValueError("a frame holds the value %d: frames are 0 or 1" % window.max())
        return window.reshape(self.steps, -1)

    def answer(self, spikes: Dict[str, Any], state: Any, *, trace: bool) -> Dict[str, Any]:
        """See `Form.answer`."""
        del state
        places = self.plan.places
        found = {"spikes": self._own(places[-1], spikes)}
        if trace:
            found.update(self._traced([self._own(place, spikes) for place in places]))
        return found

    def _own(self, place: Place, spikes: Dict[str, Any]) -> Any:
        raster = spikes[place.population][place.shift :][: self.steps]
        return raster.astype(np.uint8).reshape(self.steps, *place.shape)


def of(model: Dict[str, Any], network: bytes) -> Form:
    """The network of LOAD.

    Raises:
        ValueError: it cannot run on Lava; the text says why.
    """
    if model.get("form") == "front":
        return Front(model, _lava_cuba.read(network))
    read = _lava_network.read(network)
    return Rates(model, read) if read.neuron == "rate" else Times(model, read)
