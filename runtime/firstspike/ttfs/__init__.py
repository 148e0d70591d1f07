"""The time-to-first-spike network: what it is (`network`), what it computes (`definition`), and fast (`emulator`)."""
