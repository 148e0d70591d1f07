"""A simulated event camera: pixels (`dvs`), drawn digits (`digits`), and what the camera looks at (`scene`).

Nothing here was recorded: whatever is made with it says "simulated". NumPy only, seeded, deterministic.
"""
