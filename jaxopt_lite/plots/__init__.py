"""Pictures of batches and their answers, of tokenizers, and of specialists, by matplotlib (the `plot` extra).

Every function draws on the axes it is given, or on those of a new figure, and returns them. A new figure is
transparent and its text grey, so that it is legible on light and on dark paper; the colors are those of Okabe and Ito
(2008), which people of any color vision can tell apart. `plots` imports nothing that it draws, so a report or a
similarity matrix can have a `plot` method.

Files, in reading order; each imports only from those above it:

- `style`: colors, and the axes of a new figure.
- `batches`: convergence, statuses, basins of attraction.
- `fits`: a curve with its confidence band.
- `vocabularies`: how well tokenizers compress, and how many merges are made at once.
- `texts`: a text colored by its tokens, on a terminal and in a notebook.
- `matrices`: how alike tasks are, and where their inputs went.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
