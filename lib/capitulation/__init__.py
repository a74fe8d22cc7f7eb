"""Bitcoin miner capitulation and what BTC did afterwards: the library behind the notebooks.

`import capitulation as cap`, then: `panel = cap.open_panel()`, `ribbon = cap.hash_ribbons(panel)`,
`found = cap.episodes(ribbon["inverted"], panel)`, `cap.event_study(panel, found["end"])`. The rooms hold the rest:
data, mining, study, simulate, figures, report.
"""

import lazy_loader

# Names and rooms are those of __init__.pyi; each is loaded when it is first used, since pandas alone takes a while.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.8.0"
