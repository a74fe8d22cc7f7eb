"""What tests of figures ask of a drawn figure."""

from matplotlib.backends.backend_agg import FigureCanvasAgg


def outside(figure) -> float:
    """How far anything drawn reaches beyond the figure's edge, inches; negative where all is inside."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box, (wide, high) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
    return max(-box.x0, -box.y0, box.x1 - wide, box.y1 - high)
