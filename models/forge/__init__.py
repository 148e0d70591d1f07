"""Where the bundles are trained: data, networks, quantisation-aware training, export. Never imported by the runtime."""
