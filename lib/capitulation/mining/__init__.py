"""Hash rate and its noise, ribbons, difficulty and retargets, miner economics, and the rules built on them."""
