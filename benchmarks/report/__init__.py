"""The comparison as one HTML file for a browser: `python -m benchmarks.report DIRECTORY` writes `comparison.html`.

The file loads nothing from elsewhere. `read` gathers what a comparison stored, `table`, `curves` and `questions` bring
it into the form that is shown, `page` puts it as JSON into a page whose script draws it.
"""

from gantune.registry import lazy

__getattr__, __all__ = lazy(__name__, {"page": ["write_report"]})
