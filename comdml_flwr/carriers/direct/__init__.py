"""What an agent knows of its peers in rounds without a leader: who is gone, how long to wait, what came."""
