"""An artificial market with known truth, and every test calibrated on thousands of them."""
