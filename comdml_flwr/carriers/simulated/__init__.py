"""The direct carrier over a simulated network and a virtual clock: one seed, one history."""
