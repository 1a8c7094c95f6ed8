"""Read what strategy files say: their symbols, their windows, and where."""
