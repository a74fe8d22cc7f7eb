"""What is known: providers, snapshots, checks and the daily panel."""
