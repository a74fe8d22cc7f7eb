"""What BTC did afterwards, and how sure one can be."""
