"""Bundles of two parts: a spiking front, an accumulator, and an ANN back, each where its plan places it.

    frames (T, C, H, W) --front--> spikes (T, C', H', W') --accumulate--> counts (T/I · C', H', W') --back--> logits

After Seekings et al. (2024), "Towards Efficient Deployment of Hybrid SNNs on Neuromorphic and Edge AI Hardware", who
left unmeasured what the two devices have to tell each other. Here its time and bytes are part of every answer.

| file | purpose |
|---|---|
| `accumulate.py` | from spikes to counts |
| `part.py` | what a front and a back are |
| `front.py`, `back.py` | both on the CPU, in the daemon's own process |
| `onnx_file.py`, `onnx_run.py` | the back's ONNX file, read and run without the `onnx` package |
| `chain.py` | a back end made of a front and a back |
| `alone.py` | a back end made of a front alone, which decides itself |
| `count.py`, `table.py` | what each part costs, counted and modelled; the same for a person |
| `assemble.py` | a user's front and back into a bundle |
| `place.py` | who runs which part: makes the back ends of a plan |
"""
