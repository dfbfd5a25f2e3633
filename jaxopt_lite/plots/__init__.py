"""Pictures: of batches and their answers, of tokenizers, of specialists. matplotlib draws them, the `plot` extra.

Every function draws on the axes it is given, or on those of a new figure, and returns them. A new figure is
transparent and its text grey, so that it is read on light and on dark paper; the colors are those of Okabe and Ito
(2008), which people of any color vision tell apart. What draws stands below what is drawn, so that a report or a
matrix of similarities can draw itself.

Files, in reading order; each imports only from those above it:

- `style`: colors, and the axes of a new figure.
- `batches`: convergence, statuses, basins of attraction.
- `fits`: a curve with its confidence band.
- `vocabularies`: how well tokenizers compress, and how many merges are made at once.
- `texts`: a text, colored by its tokens, on a terminal and in a notebook.
- `matrices`: tasks beside tasks, inputs beside where they went.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
