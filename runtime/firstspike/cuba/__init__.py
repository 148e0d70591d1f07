"""Networks of current-based leaky integrate-and-fire neurons, as SLAYER trains them and Loihi runs them."""
