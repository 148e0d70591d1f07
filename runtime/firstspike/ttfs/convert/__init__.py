"""From a trained ANN to a TTFS network: one file a step, in this order.

`onnx_file` reads and checks the file, `onnx_graph` makes of its nodes a plain sequence (`ann`) with the help of `fold`,
`calibration` reads samples, `normalise` finds each layer's scale (Quartz, Algorithm 1), `targets` keeps what the ANN
answers, `quantise` makes the integers with the help of `refit`, `choose` tries several of both, `report` compares both
networks, `bundle` writes the result, and `convert` calls them all.
`dense` exports a gated network for accelerators.
`rate` makes the rate-coded baseline of the same normalised network; `sweep` converts with many settings and compares.
"""
