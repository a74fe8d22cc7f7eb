"""Forward returns, inference, backtest, robustness, survival, cause and claims: what followed, how sure one can be."""
