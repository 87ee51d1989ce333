"""Who helps whom at which cut, and how long that takes: pure functions of the agents' profiles."""
