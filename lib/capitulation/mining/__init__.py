"""What the network did: hash rate and its noise, difficulty, economics, rules of capitulation, episodes."""
