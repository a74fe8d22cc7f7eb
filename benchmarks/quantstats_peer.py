"""quantstats' HTML report of holding while the fast mean of the price is above the slow one, against buy and hold.

Arguments: a CSV of dates and closes, the file for the page. Run by the Python of benchmarks/.venv.
"""

import sys

import pandas as pd
import quantstats

source, page = sys.argv[1:]
close = pd.read_csv(source, index_col=0, parse_dates=True).iloc[:, 0]["2014":]
returns, above = close.pct_change().dropna(), close.rolling(30).mean() > close.rolling(60).mean()
held = (returns * above.shift(2, fill_value=False)).dropna()
quantstats.reports.html(held, benchmark=returns, output=page, periods_per_year=365)
